from __future__ import annotations

from typing import Any

import pytest

from secure_ai.core.findings import Severity
from secure_ai.core.results import rate
from secure_ai.runs.judgements import judge_measurements

OTHER = [{"id": "made-for-another-network", "outcome": "fail", "evidence": "made for another"}]


def entry(identifier: str, metric: str, percent: float, verdict: str = "doubtful", checks: Any = ()) -> dict[str, Any]:
    return {
        "id": identifier,
        "model": identifier.rsplit("/", 1)[0],
        "metric": metric,
        "value": rate(round(percent * 100), 10_000).as_json(),
        "trust": {"verdict": verdict, "checks": list(checks)},
        "budget": {"norm": "linf", "eps": 0.25, "eps_text": "0.25"},
        "protocol": identifier.rsplit("/", 1)[-1],
        "replay": "secure-ai run",
        "stage": "assess/attack",
    }


def defended(transferred: float, pgd: float) -> list[dict[str, Any]]:
    return [
        entry("net/defended/transferred", "robust_accuracy", transferred, "broken", OTHER),
        entry("net/defended/pgd", "robust_accuracy", pgd),
    ]


def test_points_of_a_curve_are_not_judged_as_if_at_the_budget_asked_for() -> None:
    asked, beyond = entry("net/attacked", "robust_accuracy", 90.0), entry("net/curve/0.5", "robust_accuracy", 1.0)
    assert [finding.id for finding in judge_measurements([asked, beyond], frozenset())] == ["SAI-EV-001"]
    assert judge_measurements([asked, beyond | {"stage": "assess/curve"}], frozenset()) == []


@pytest.mark.parametrize(
    ("pgd", "severity"), [(2.0, Severity.HIGH), (30.0, Severity.MEDIUM), (70.0, Severity.LOW), (90.0, None)]
)
def test_severity_follows_the_robust_accuracy(pgd: float, severity: Severity | None) -> None:
    found = judge_measurements([entry("net/a/pgd", "robust_accuracy", pgd)], frozenset())
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


def test_an_overstated_number_is_found_and_swapped_measurements_are_not() -> None:
    found = {f.id: f for f in judge_measurements(defended(98.0, 5.0), frozenset())}
    assert "93.0 points above" in found["SAI-EV-002"].message
    assert "[broken]" in found["SAI-EV-002"].message
    assert "SAI-EV-002" not in {f.id for f in judge_measurements(defended(5.0, 98.0), frozenset())}
    assert "SAI-EV-002" not in {f.id for f in judge_measurements(defended(90.0, 90.0), frozenset())}


def test_transferred_examples_alone_never_decide_the_severity() -> None:
    found = judge_measurements([entry("n/d/transferred", "robust_accuracy", 2.0, "broken", OTHER)], frozenset())
    assert found == []


@pytest.mark.parametrize(
    ("poisoned", "clean", "severity"),
    [
        (99.5, 0.1, Severity.CRITICAL),
        (30.0, 0.1, Severity.HIGH),
        (0.1, 0.1, None),
        (99.5, 99.5, None),
        (0.1, 99.5, None),
    ],
)
def test_a_backdoor_is_one_only_above_the_clean_network(
    poisoned: float, clean: float, severity: Severity | None
) -> None:
    rows = [
        entry("net/baseline/backdoor", "backdoor_success_rate", clean),
        entry("net/poisoned/backdoor", "backdoor_success_rate", poisoned),
    ]
    assert [finding.severity for finding in judge_measurements(rows, frozenset())] == (
        [] if severity is None else [severity]
    )


def test_the_clean_rate_beside_a_backdoor_is_of_the_same_trigger() -> None:
    clean = entry("net/baseline/backdoor", "backdoor_success_rate", 99.5)
    other = entry("net/baseline/backdoor-other", "backdoor_success_rate", 0.1)
    own = entry("net/poisoned/backdoor-other", "backdoor_success_rate", 99.5)
    (finding,) = judge_measurements([clean, other, own], frozenset())
    assert finding.evidence["clean_model"] == other["value"]


def test_findings_about_our_own_networks_are_marked_planted() -> None:
    rows = [entry("net/a/pgd", "robust_accuracy", 2.0)]
    assert [f.planted for f in judge_measurements(rows, frozenset({"net/a"}))] == [True]
    assert [f.planted for f in judge_measurements(rows, frozenset())] == [False]
