"""Rates and measurements as JSON, and findings: what counts, and in which order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import EmptyDenominatorError
from secure_ai.core.findings import Finding, Outcome, Severity, exceeds
from secure_ai.core.results import Measurement, Rate, rate, rate_or_reason
from secure_ai.core.trust import Trust, Verdict

RATE_KEYS = {"value", "ci_low", "ci_high", "n", "successes"}


@given(st.integers(1, 10_000), st.data())
@settings(max_examples=40, deadline=None)
def test_a_rate_survives_json(n: int, data: st.DataObject) -> None:
    measured = rate(data.draw(st.integers(0, n)), n)
    content = json.loads(json.dumps(measured.as_json(), allow_nan=False))
    assert set(content) == RATE_KEYS
    assert Rate(**content) == measured
    assert measured.value == measured.successes / n


def test_a_rate_over_nothing_says_why() -> None:
    reason = "no sample was correct before"
    empty = rate_or_reason(0, 0, reason)
    assert empty.as_json() == {
        "value": None, "ci_low": None, "ci_high": None, "n": 0, "successes": 0,
        "reason": reason,
    }  # fmt: skip
    assert Rate(**empty.as_json()) == empty
    assert str(empty) == f"none ({reason})"
    with pytest.raises(EmptyDenominatorError):
        rate(0, 0)


def test_a_rate_with_samples_needs_no_reason() -> None:
    assert rate_or_reason(3, 4, "unused") == rate(3, 4)
    assert str(rate(590, 10_000)) == "5.90 % [5.45, 6.38], n = 10000"


def test_a_measurement_as_json() -> None:
    measured = Measurement(
        id="report-1/baseline/fgsm", model="baseline", metric="robust_accuracy", value=rate(15, 100),
        protocol="white-box FGSM", stage="report-1/fgsm", replay="secure-ai run",
        budget=PerturbationBudget("linf", 0.25, "1/4"), trust=Trust(Verdict.DOUBTFUL, ()),
    )  # fmt: skip
    content = measured.as_json()
    assert set(content) == {"id", "model", "metric", "budget", "value", "trust", "stage", "replay", "protocol"} | {
        "condition", "trigger", "made_for", "drawn",
    }  # fmt: skip
    assert content["budget"] == {"norm": "linf", "eps": 0.25, "eps_text": "1/4"}
    assert content["trust"] == {"verdict": "doubtful", "checks": [], "not_run": []}
    assert content["value"] == rate(15, 100).as_json()


def test_a_measurement_without_budget_or_trust_says_null() -> None:
    measured = Measurement(
        id="a",
        model="m",
        metric="clean_accuracy",
        value=Rate(None, None, None, 0, 0, "r"),
        protocol="p",
        stage="s",
        replay="r",
    )
    assert (measured.as_json()["budget"], measured.as_json()["trust"]) == (None, None)


def finding(severity: Severity, *, planted: bool = False) -> Finding:
    return Finding(id="X", severity=severity, severity_rule="rule", message="m", location="l", planted=planted)


def test_severities_are_ordered() -> None:
    ranks = [
        severity.rank for severity in (Severity.INFO, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)
    ]
    assert ranks == [0, 1, 2, 3, 4]


def test_planted_findings_never_count() -> None:
    planted, own = finding(Severity.CRITICAL, planted=True), finding(Severity.MEDIUM)
    assert not exceeds([planted], "low")
    assert not exceeds([], "low")
    assert [exceeds([planted, own], limit) for limit in ("low", "medium", "high", "never")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_finding_as_json() -> None:
    content = json.loads(json.dumps(finding(Severity.HIGH).as_json()))
    assert content["severity"] == "high"
    assert set(content) == {
        "id", "severity", "severity_rule", "message", "location", "evidence", "taxonomy", "remediation", "reproduce",
        "planted",
    }  # fmt: skip


def test_the_four_outcomes_stay_apart() -> None:
    assert [outcome.value for outcome in Outcome] == ["clean", "findings", "error", "not_checked"]
