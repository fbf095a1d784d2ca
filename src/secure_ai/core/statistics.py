"""Intervals and tests. scipy is imported where it is needed only: it costs start-up time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from secure_ai.core.errors import EmptyDenominatorError

Z_95 = 1.959963984540054


def wilson(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson, JASA 1927).

    Args:
        successes: 0 to `n`.
        n: at least 1.
        z: normal quantile; the default gives 95 %.

    Returns:
        (low, high), within [0, 1] and always holding successes / n.

    Raises:
        EmptyDenominatorError: n is 0, or successes is outside [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise EmptyDenominatorError(
            "a rate needs at least one sample", expected="n >= 1 and 0 <= successes <= n", got=f"{successes} of {n}"
        )
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if successes == 0 else max(0.0, centre - half), 1.0 if successes == n else min(1.0, centre + half))


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
    """Chi-square test that wrong predictions fall evenly on the wrong classes, within each true class.

    Args:
        confusion: (K, K) counts, row = true label, column = prediction.

    Returns:
        The p-value of the pooled test (each row adds K - 2 degrees of freedom), or None with no errors at all or K < 3.
    """
    statistic, freedom, classes = 0.0, 0, len(confusion)
    if classes < 3:
        return None
    for label, row in enumerate(confusion):
        wrong = [count for column, count in enumerate(row) if column != label]
        expected = sum(wrong) / (classes - 1)
        if expected > 0:
            statistic += sum((count - expected) ** 2 / expected for count in wrong)
            freedom += classes - 2
    if freedom == 0:
        return None
    from scipy.special import chdtrc  # lazily: scipy costs start-up time

    return float(chdtrc(freedom, statistic))
