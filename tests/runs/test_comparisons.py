"""Paired comparisons of before and after."""

from __future__ import annotations

import numpy as np
import pytest

from secure_ai.core.statistics import mcnemar_exact
from secure_ai.runs.comparisons import comparisons, pack, unpack

BEFORE, AFTER = "report-1/baseline/clean", "report-1/poisoned/clean"
TRUST = {BEFORE: "reliable", AFTER: "doubtful", "report-1/badnets/clean": "reliable"}


def outcomes(lost: int, won: int, both: int) -> dict[str, dict[str, object]]:
    before = np.array([True] * (lost + both) + [False] * won)
    after = np.array([False] * lost + [True] * (both + won))
    return {BEFORE: pack(before), AFTER: pack(after)}


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
def test_packing_loses_nothing(n: int) -> None:
    right = np.random.default_rng(n).random(n) < 0.5
    assert np.array_equal(unpack(pack(right)), right)


def test_the_difference_is_of_the_same_images_and_has_a_sign() -> None:
    (row,) = comparisons(outcomes(lost=30, won=10, both=60), TRUST)
    assert row["difference"] == pytest.approx(-0.2)
    assert row["ci_low"] < -0.2 < row["ci_high"] < 0
    assert row["p"] == mcnemar_exact(30, 10) < 0.01
    (swapped,) = comparisons(outcomes(lost=10, won=30, both=60), TRUST)
    assert swapped["difference"] == -row["difference"]
    (equal,) = comparisons(outcomes(lost=20, won=20, both=60), TRUST)
    assert (equal["difference"], equal["p"]) == (0, 1)


def test_holm_is_over_the_rows_of_one_card_that_were_measured() -> None:
    alone = comparisons(outcomes(30, 10, 60), TRUST)
    assert alone[0]["p_holm"] == alone[0]["p"]
    both = outcomes(30, 10, 60) | {"report-1/badnets/clean": outcomes(30, 10, 60)[AFTER]}
    rows = comparisons(both, TRUST)
    assert [row["p_holm"] for row in rows] == [pytest.approx(2 * alone[0]["p"])] * 2


def test_a_difference_is_trusted_no_more_than_the_worse_of_its_two() -> None:
    (row,) = comparisons(outcomes(1, 1, 8), TRUST)
    assert row["trust"] == "doubtful"
    (row,) = comparisons(outcomes(1, 1, 8), TRUST | {BEFORE: "broken"})
    assert row["trust"] == "broken"


def test_nothing_measured_gives_no_rows() -> None:
    assert comparisons({BEFORE: pack(np.ones(3, dtype=bool))}, TRUST) == []
