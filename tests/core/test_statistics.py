"""Intervals and tests against published values, against scipy, and against the laws they must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import EmptyDenominatorError
from secure_ai.core.statistics import (
    beyond_chance,
    holm,
    mcnemar_exact,
    median_interval,
    paired_difference,
    uniform_errors_p,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Stat. Med. 17 (1998), table I, method 3 (score without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # By hand: z^2 / (n + z^2), and the symmetric case.
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
    ],
)
def test_wilson_gives_the_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 20_000), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_wilson_agrees_with_scipy_and_holds_the_estimate(n: int, share: float) -> None:
    from scipy.stats import binomtest

    successes = round(share * n)
    low, high = wilson(successes, n)
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize("successes", [0, 3, 10])
def test_wilson_mirrors_and_narrows(successes: int) -> None:
    low, high = wilson(successes, 10)
    mirrored = wilson(10 - successes, 10)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)
    more_low, more_high = wilson(100 * successes, 1000)
    assert more_high - more_low < high - low


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_wilson_refuses_an_impossible_count(successes: int, n: int) -> None:
    with pytest.raises(EmptyDenominatorError):
        wilson(successes, n)


@pytest.mark.parametrize(("n", "most_by_chance"), [(20, 2), (1000, 9)])
def test_beyond_chance_from_both_sides(n: int, most_by_chance: int) -> None:
    """Of 20 the count decides, of 1,000 the interval: Wilson's lower end is 0.0047 at 9 and 0.0054 at 10."""
    assert not beyond_chance(most_by_chance, n)
    assert beyond_chance(most_by_chance + 1, n)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"), [(0, 0, 1.0), (0, 5, 2 / 32), (1, 9, 22 / 1024), (4, 4, 1.0)]
)
def test_mcnemar_gives_the_values_counted_by_hand(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p, rel=1e-12)


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=50, deadline=None)
def test_mcnemar_is_the_sign_test(only_first: int, only_second: int) -> None:
    from scipy.stats import binomtest

    p = mcnemar_exact(only_first, only_second)
    assert p == mcnemar_exact(only_second, only_first)
    assert 0 < p <= 1
    if only_first + only_second:
        assert p == pytest.approx(binomtest(only_first, only_first + only_second).pvalue, rel=1e-9)


def test_paired_difference_gives_the_published_interval() -> None:
    # Agresti, Categorical Data Analysis, section 10.1: approval ratings, 1600 people, 150 and 86 changed their mind;
    # Wald: -0.04 with (-0.059, -0.021). With n = 1600 the adjusted interval differs in the fourth place only.
    value, low, high = paired_difference(150, 86, 1600)
    assert value == pytest.approx(-0.04)
    assert (low, high) == pytest.approx((-0.0588, -0.0211), abs=2e-4)


def test_paired_difference_adds_half_a_pair_to_each_cell() -> None:
    # By hand: n = 8, cells 1 and 3: (3.5 - 1.5) / 10 and sqrt(5 - 4 / 10) / 10.
    value, low, high = paired_difference(1, 3, 8)
    half = 1.959963984540054 * math.sqrt(5.0 - 0.4) / 10
    assert value == pytest.approx(0.25)
    assert (low, high) == pytest.approx((0.2 - half, 0.2 + half))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_paired_difference_mirrors_and_stays_in_range(only_first: int, only_second: int, others: int) -> None:
    n = only_first + only_second + others
    if n == 0:
        with pytest.raises(EmptyDenominatorError):
            paired_difference(0, 0, 0)
        return
    value, low, high = paired_difference(only_first, only_second, n)
    mirrored = paired_difference(only_second, only_first, n)
    assert mirrored == pytest.approx((-value, -high, -low))
    assert -1 <= low < high <= 1


def test_holm_gives_the_values_counted_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
@settings(max_examples=50, deadline=None)
def test_holm_never_lowers_keeps_order_and_ignores_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    assert sorted(adjusted) == [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert holm(p_values[::-1]) == adjusted[::-1]


def test_uniform_errors_of_one_row_is_the_chi_square_test() -> None:
    from scipy.stats import chisquare

    confusion = [[90, 70, 20, 10], [0, 100, 0, 0], [0, 0, 100, 0], [0, 0, 0, 100]]
    assert uniform_errors_p(confusion) == pytest.approx(chisquare([70, 20, 10]).pvalue, rel=1e-9)


def test_uniform_errors_pools_the_rows() -> None:
    from scipy.stats import chi2, chisquare

    confusion = [[90, 11, 6, 4], [7, 90, 9, 8], [0, 0, 100, 0], [14, 3, 7, 90]]
    rows = [[11, 6, 4], [7, 9, 8], [14, 3, 7]]
    statistic = sum(chisquare(row).statistic for row in rows)
    assert uniform_errors_p(confusion) == pytest.approx(chi2.sf(statistic, 2 * len(rows)), rel=1e-9)


def test_uniform_errors_tells_even_from_concentrated_errors() -> None:
    even = [[70 if row == column else 10 for column in range(4)] for row in range(4)]
    concentrated = [
        [70 if row == column else 30 * (column == (row + 1) % 4) for column in range(4)] for row in range(4)
    ]
    assert uniform_errors_p(even) == pytest.approx(1.0)
    p = uniform_errors_p(concentrated)
    assert p is not None
    assert p < 1e-12


@pytest.mark.parametrize(
    ("row", "exact"), [([0, 3, 0, 0], 3 / 27), ([0, 2, 1, 0], 1 - 6 / 27), ([0, 1, 1, 1], 1.0), ([0, 2, 0, 0], 3 / 9)]
)
def test_few_errors_get_the_exact_answer_and_not_the_chi_square_one(row: list[int], exact: float) -> None:
    """Counted by hand: of the 27 ways to drop 3 errors on 3 classes, 3 put all in one and 6 put one in each."""
    confusion = [row, [0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9]]
    assert uniform_errors_p(confusion) == pytest.approx(exact, abs=0.015)
    assert uniform_errors_p(confusion) == uniform_errors_p(confusion)


@pytest.mark.parametrize("confusion", [[], [[5]], [[5, 3], [2, 5]], [[5, 0, 0], [0, 5, 0], [0, 0, 5]]])
def test_uniform_errors_has_no_answer_without_a_choice_of_errors(confusion: list[list[int]]) -> None:
    assert uniform_errors_p(confusion) is None


def test_the_interval_of_a_median_has_the_ranks_of_the_tables() -> None:
    """Ranks for 95 %: n = 10: 2 and 9; n = 20: 6 and 15; n = 100: 40 and 61 (Hahn and Meeker, table A.15)."""
    assert median_interval(range(1, 11))[1:] == (2, 9)
    assert median_interval(range(1, 21))[1:] == (6, 15)
    assert median_interval(range(1, 101)) == (51, 40, 61)
    assert median_interval([6, 1, 3, 2, 5, 4]) == (4, 1, 6)
    assert median_interval([1, 2, 3]) == (2, -math.inf, math.inf)


def test_a_median_of_failures_is_infinite() -> None:
    assert median_interval([0.1] * 40 + [math.inf] * 60)[0] == math.inf
    assert median_interval([0.1] * 61 + [math.inf] * 39) == (0.1, 0.1, 0.1)
    assert median_interval([0.1] * 52 + [math.inf] * 48) == (0.1, 0.1, math.inf)
    with pytest.raises(EmptyDenominatorError):
        median_interval([])


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    draw = np.random.default_rng(5)
    intervals = [median_interval(draw.exponential(size=25).tolist()) for _ in range(2000)]
    held = sum(low <= math.log(2) <= high for _, low, high in intervals) / len(intervals)
    assert 0.945 <= held <= 0.985
