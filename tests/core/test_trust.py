"""The laws of the trust verdict."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.trust import Check, CheckOutcome, Verdict, check, judge, sample_size_check

ORDER = [Verdict.RELIABLE, Verdict.DOUBTFUL, Verdict.BROKEN]
checks = st.lists(
    st.builds(
        Check, st.sampled_from(["a", "b", "transferred"]), st.sampled_from(list(CheckOutcome)), st.just("because")
    ),
    max_size=5,
)
BREAKING = frozenset({"transferred"})


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ({"a": True}, Verdict.RELIABLE),
        ({"a": True, "b": None}, Verdict.RELIABLE),
        ({"a": True, "b": False}, Verdict.DOUBTFUL),
        ({"a": True, "transferred": False}, Verdict.BROKEN),
        ({"a": False, "transferred": False}, Verdict.BROKEN),
        ({"a": None, "transferred": None}, Verdict.DOUBTFUL),
        ({}, Verdict.DOUBTFUL),
    ],
)
def test_verdicts(outcomes: dict[str, bool | None], verdict: Verdict) -> None:
    found = judge([check(name, ok, "because") for name, ok in outcomes.items()], breaking=BREAKING)
    assert found.verdict is verdict


@given(checks, checks)
@settings(max_examples=60, deadline=None)
def test_a_failing_check_never_makes_a_verdict_better(some: list[Check], more: list[Check]) -> None:
    failing = [c for c in more if c.outcome is CheckOutcome.FAIL]
    before, after = judge(some, breaking=BREAKING), judge([*some, *failing], breaking=BREAKING)
    assert ORDER.index(after.verdict) >= ORDER.index(before.verdict)


@given(checks)
@settings(max_examples=40, deadline=None)
def test_the_order_of_checks_does_not_matter_and_all_are_kept(some: list[Check]) -> None:
    verdicts = {judge(order, breaking=BREAKING).verdict for order in itertools.islice(itertools.permutations(some), 24)}
    assert len(verdicts) == 1
    assert judge(some, breaking=BREAKING).checks == tuple(some)


@given(checks)
@settings(max_examples=40, deadline=None)
def test_reliable_means_that_something_passed_and_nothing_failed(some: list[Check]) -> None:
    trust = judge(some, breaking=BREAKING)
    outcomes = {c.outcome for c in some}
    expected = CheckOutcome.PASS in outcomes and CheckOutcome.FAIL not in outcomes
    assert (trust.verdict is Verdict.RELIABLE) == expected
    assert len(trust.reasons) == sum(c.outcome is CheckOutcome.FAIL for c in some)


def test_a_verdict_as_json() -> None:
    trust = judge([check("one-step", False, "FGSM only"), check("n", None, "no data")], breaking=BREAKING)
    assert trust.as_json() == {
        "verdict": "doubtful",
        "checks": [
            {"id": "one-step", "outcome": "fail", "evidence": "FGSM only"},
            {"id": "n", "outcome": "not_run", "evidence": "no data"},
        ],
        "not_run": ["n"],
    }
    assert trust.reasons == ["FGSM only"]


def test_a_claim_needs_a_thousand_samples() -> None:
    assert sample_size_check(999).outcome is CheckOutcome.FAIL
    assert sample_size_check(1000).outcome is CheckOutcome.PASS
    assert "999" in sample_size_check(999).evidence
