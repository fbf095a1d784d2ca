"""What a guard of inputs is: a score, and a threshold that clean inputs set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from secure_ai.core.errors import EmptyDataError, ShapeError, TargetError, UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Guarded:
    """Inputs with what a guard says of each.

    Attributes:
        x: (N, C, H, W), as given.
        refused: (N,) bool.
        score: (N,) float64; higher = more suspicious.
    """

    x: np.ndarray
    refused: np.ndarray
    score: np.ndarray


Guard = Callable[[np.ndarray], Guarded]
Score = Callable[[np.ndarray], np.ndarray]
"""(N, C, H, W) -> (N,) float64; higher = more suspicious."""


def half_of(clean: int, false_refusals: float) -> int:
    """How many of the clean inputs make the score; as many again set the threshold.

    Raises:
        UsageError, EmptyDataError: no such fraction, or too few clean inputs for it.
    """
    if not 0 < false_refusals < 1:
        raise UsageError("not a fraction", where="false_refusals", expected="above 0, below 1", got=false_refusals)
    if clean // 2 < 1 / false_refusals:
        expected = f">= {2 / false_refusals:.0f}"
        raise EmptyDataError("too few clean images for that rate", where="clean", expected=expected, got=clean)
    return clean // 2


def guard_by(score: Score, clean: np.ndarray, false_refusals: float) -> Guard:
    """The guard that refuses at most `false_refusals` of clean inputs in expectation, and every score that is NaN.

    Args:
        clean: did not make the score. With n of them the threshold is the ceil((n + 1)(1 - false_refusals))-th lowest
            score: a plain quantile would refuse more of new inputs (conformal prediction; Angelopoulos and Bates,
            2107.07511, section 1).

    Raises:
        TargetError: the network gives a clean input a score that is not finite.
    """
    known = np.sort(score(clean))
    if (wrong := known[~np.isfinite(known)]).size:
        raise TargetError("scores of clean images are not finite", where="clean", expected="finite", got=wrong[0])
    threshold = known[math.ceil((len(known) + 1) * (1 - false_refusals)) - 1]

    def guard(x: np.ndarray) -> Guarded:
        if x.shape[1:] != clean.shape[1:]:
            raise ShapeError(
                "not such images as the clean ones", where="x", expected=("N", *clean.shape[1:]), got=x.shape
            )
        scores = score(x)
        return Guarded(x, ~(scores <= threshold), scores)  # NaN is refused

    return guard
