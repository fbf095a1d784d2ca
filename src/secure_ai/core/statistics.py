"""Intervals and tests. scipy is imported where it is needed only: it costs start-up time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from secure_ai.core.errors import EmptyDenominatorError

Z_95 = 1.959963984540054
LEAST_EXPECTED = 5  # below it the chi-square distribution misjudges sparse tables
DRAWS = 9_999
TIE = 1e-9
LEAST_EXTRA, LEAST_EXTRA_SHARE = 3, 0.005
BEYOND_CHANCE = f"{LEAST_EXTRA}, and a lower interval end above {LEAST_EXTRA_SHARE:.1%}, are too many"


def wilson(successes: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson, JASA 1927).

    Args:
        successes: 0 to `n`; no whole number where `n` is an effective one.
        n: at least 1.

    Returns:
        (low, high), within [0, 1] and always holding successes / n.

    Raises:
        EmptyDenominatorError: n is 0, or successes is outside [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise EmptyDenominatorError(
            "a rate needs at least one sample", expected="n >= 1 and 0 <= successes <= n", got=f"{successes} of {n}"
        )
    p, z = successes / n, Z_95
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if successes == 0 else max(0.0, centre - half), 1.0 if successes == n else min(1.0, centre + half))


def beyond_chance(extra: int, n: int) -> bool:
    """Whether `extra` of `n` samples where there ought to be none are more than chance.

    One image in 184 is not masking: at least LEAST_EXTRA images, and the lower end of the share's 95 % interval above
    LEAST_EXTRA_SHARE. BEYOND_CHANCE says so in a check's evidence.
    """
    return extra >= LEAST_EXTRA and wilson(extra, n)[0] > LEAST_EXTRA_SHARE


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar p-value for paired yes/no outcomes.

    Args:
        only_first: pairs that succeed in the first condition only.
        only_second: pairs that succeed in the second condition only.

    Returns:
        p in (0, 1]; 1.0 where no pair differs.
    """
    n = only_first + only_second
    if n == 0:
        return 1.0
    from scipy.special import bdtr  # lazily: scipy costs start-up time

    return min(1.0, 2.0 * float(bdtr(min(only_first, only_second), n, 0.5)))


def paired_difference(only_first: int, only_second: int, n: int) -> tuple[float, float, float]:
    """Difference of two paired proportions with its 95 % interval (Agresti and Min, Stat. Med. 2005, Wald+2).

    Args:
        only_first: pairs that succeed in the first condition only.
        only_second: pairs that succeed in the second condition only.
        n: all pairs.

    Returns:
        (second minus first, low, high), the interval clipped to [-1, 1].

    Raises:
        EmptyDenominatorError: n is 0.
    """
    if n < 1:
        raise EmptyDenominatorError("a difference needs at least one pair", expected="n >= 1", got=n)
    first, second, total = only_first + 0.5, only_second + 0.5, n + 2.0
    centre = (second - first) / total
    half = Z_95 * math.sqrt((first + second) - (second - first) ** 2 / total) / total
    return (only_second - only_first) / n, max(-1.0, centre - half), min(1.0, centre + half)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval from order statistics (Hahn and Meeker, Statistical Intervals, section 5.2).

    Free of any distribution, so values may be infinite. The interval is the narrowest symmetric one in ranks whose
    coverage is at least 95 %; with fewer than 6 values it is the whole line.

    Args:
        values: at least one, NaN excluded; for an even number the upper of the two middle ones is the median.

    Returns:
        (median, low, high).

    Raises:
        EmptyDenominatorError: no values.
    """
    n = len(values)
    if n < 1:
        raise EmptyDenominatorError("a median needs at least one value", expected="n >= 1", got=n)
    ordered = sorted(values)
    below, tail = 0, 0  # `tail` / 2**n: the chance that the true median lies below the value of rank `below` + 1
    while below < n // 2:
        tail += math.comb(n, below)
        if 40 * tail > 2**n:  # above 2.5 % on each side
            break
        below += 1
    if below == 0:
        return ordered[n // 2], -math.inf, math.inf
    return ordered[n // 2], ordered[below - 1], ordered[n - below]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Scand. J. Stat. 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def uniform_errors_p(confusion: Sequence[Sequence[int]]) -> float | None:
    """Test whether wrong predictions fall evenly on the wrong classes, within each true class.

    Pearson's statistic over all rows; its p-value is that of the chi-square distribution (K - 2 degrees of freedom a
    row) where every expected count is at least 5 (Cochran, Ann. Math. Stat. 1952), else of 9,999 seeded even draws.

    Args:
        confusion: (K, K) counts, row = true label, column = prediction.

    Returns:
        p in (0, 1], or None with no errors at all or K < 3.
    """
    classes = len(confusion)
    rows = [[n for column, n in enumerate(row) if column != label] for label, row in enumerate(confusion)]
    rows = [row for row in rows if sum(row) > 0]
    if classes < 3 or not rows:
        return None
    statistic = sum(_pearson(row) for row in rows)
    if all(sum(row) >= LEAST_EXPECTED * (classes - 1) for row in rows):
        from scipy.special import chdtrc  # lazily: scipy costs start-up time

        return float(chdtrc(len(rows) * (classes - 2), statistic))
    return _simulated_p(statistic, [sum(row) for row in rows], classes - 1)


def _pearson(counts: Sequence[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 for count in counts) / expected


def _simulated_p(statistic: float, totals: Sequence[int], cells: int) -> float:
    """How often even draws are at least as uneven: (1 + hits) / (1 + draws), never 0 (Davison and Hinkley, 1997)."""
    import numpy as np  # lazily: nothing else here needs it

    generator = np.random.default_rng(DRAWS)
    drawn = np.zeros(DRAWS)
    for total in totals:
        counts = generator.multinomial(total, [1 / cells] * cells, size=DRAWS)
        drawn += ((counts - total / cells) ** 2).sum(axis=1) * cells / total
    return float((1 + (drawn >= statistic - TIE).sum()) / (1 + DRAWS))


def clopper_pearson_lower(successes: int, n: int, alpha: float) -> float:
    """The one-sided lower bound of a proportion that is too high with a chance of at most `alpha` (Biometrika 1934).

    Args:
        successes: 0 to `n`.
        n: at least 1.
        alpha: in (0, 1).

    Raises:
        EmptyDenominatorError: n is 0, or successes is outside [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise EmptyDenominatorError(
            "a bound needs at least one sample", expected="n >= 1 and 0 <= successes <= n", got=f"{successes} of {n}"
        )
    if successes == 0:
        return 0.0
    from scipy.special import betaincinv  # lazily: scipy costs start-up time

    return float(betaincinv(successes, n - successes + 1, alpha))
