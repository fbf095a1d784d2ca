"""Paired comparisons of before and after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.comparisons import Comparison
from secure_ai.core.results import Measurement, rate
from secure_ai.core.statistics import mcnemar_exact
from secure_ai.core.trust import Trust, Verdict
from secure_ai.runs.engine.measure import Network
from secure_ai.runs.outputs.comparisons import comparisons
from secure_ai.runs.stages.entries import per_sample, rate_entry, unpacked

BEFORE, AFTER, OTHER = "base", "after", "other"
RELIABLE, DOUBTFUL, BROKEN = Verdict
NETWORKS = {
    BEFORE: Network(id=BEFORE, role="baseline", title="", arch=""),
    AFTER: Network(id=AFTER, role="poisoned", title="", arch="", against=BEFORE, card="one card"),
    OTHER: Network(id=OTHER, role="poisoned", title="", arch="", against=BEFORE, card="one card"),
}


def outcomes(lost: int, won: int, both: int) -> dict[str, np.ndarray]:
    before = np.array([True] * (lost + both) + [False] * won)
    after = np.array([False] * lost + [True] * (both + won))
    return {BEFORE: before, AFTER: after}


def entry(network: str, correct: np.ndarray, verdict: Verdict) -> Measurement:
    value = rate(int(correct.sum()), len(correct))
    return rate_entry(network, "clean", "clean_accuracy", value, "", trust=Trust(verdict, ()))


def compared(correct: Mapping[str, np.ndarray], trust: Mapping[str, Verdict] | None = None) -> tuple[Comparison, ...]:
    entries = [entry(name, bits, (trust or {}).get(name, RELIABLE)) for name, bits in correct.items()]
    samples = [per_sample(one, bits) for one, bits in zip(entries, correct.values(), strict=True)]
    return comparisons(NETWORKS, entries, samples)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
def test_packing_loses_nothing(n: int) -> None:
    right = np.random.default_rng(n).random(n) < 0.5
    assert np.array_equal(unpacked(per_sample(entry(BEFORE, right, RELIABLE), right)), right)


def test_the_difference_is_of_the_same_images_and_has_a_sign() -> None:
    (row,) = compared(outcomes(lost=30, won=10, both=60))
    assert (row.card, row.before, row.after) == ("one card", "base/clean", "after/clean")
    assert row.difference == pytest.approx(-0.2)
    assert row.ci_low < -0.2 < row.ci_high < 0
    assert row.p == mcnemar_exact(30, 10) < 0.01
    (swapped,) = compared(outcomes(lost=10, won=30, both=60))
    assert swapped.difference == -row.difference
    (equal,) = compared(outcomes(lost=20, won=20, both=60))
    assert (equal.difference, equal.p) == (0, 1)


def test_holm_is_over_the_rows_of_one_card_that_were_measured() -> None:
    alone = compared(outcomes(30, 10, 60))
    assert alone[0].p_holm == alone[0].p
    both = outcomes(30, 10, 60)
    rows = compared({**both, OTHER: both[AFTER]})
    assert [row.p_holm for row in rows] == [pytest.approx(2 * alone[0].p)] * 2


def test_a_difference_is_trusted_no_more_than_the_worse_of_its_two() -> None:
    (row,) = compared(outcomes(1, 1, 8), {AFTER: DOUBTFUL})
    assert row.trust is DOUBTFUL
    (row,) = compared(outcomes(1, 1, 8), {AFTER: DOUBTFUL, BEFORE: BROKEN})
    assert row.trust is BROKEN


@pytest.mark.parametrize(
    ("before", "after", "paired"),
    [
        (PerturbationBudget("linf", 0.25), PerturbationBudget("linf", 0.25), True),
        (PerturbationBudget("linf", 8 / 255, "8/255"), PerturbationBudget("linf", 8 / 255), True),
        (PerturbationBudget("linf", 0.25), PerturbationBudget("linf", 0.3), False),
        (PerturbationBudget("linf", 0.3), PerturbationBudget("l2", 0.3), False),
    ],
)
def test_only_entries_within_the_same_budget_are_compared(
    before: PerturbationBudget, after: PerturbationBudget, paired: bool
) -> None:
    """Of a pair that is left out nothing is in the card, and Holm's adjustment does not count it."""
    bits = outcomes(30, 10, 60)
    entries = [entry(name, right, RELIABLE) for name, right in bits.items()]
    entries += [
        rate_entry(name, "pgd", "robust_accuracy", rate(int(bits[name].sum()), 100), "", budget=budget)
        for name, budget in ((BEFORE, before), (AFTER, after))
    ]
    rows = comparisons(NETWORKS, entries, [per_sample(one, bits[one.model]) for one in entries])
    assert [row.after for row in rows] == ["after/clean", "after/pgd"][: 1 + paired]
    assert rows[0].p_holm == pytest.approx(rows[0].p * len(rows))


def test_nothing_measured_gives_no_rows() -> None:
    assert compared({BEFORE: np.ones(3, dtype=bool)}) == ()
