"""Schedules of a learning rate, an eps, a number of steps or a weight: pure functions of (step, steps in all)."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, int], float]


def constant(learning_rate: float) -> Schedule:
    """`learning_rate` at every step."""

    def schedule(step: int, total_steps: int) -> float:
        return learning_rate

    return schedule


def triangular(peak: float, peak_at: float = 0.5) -> Schedule:
    """From 0 up to `peak` at the share `peak_at` of all steps, and back to 0 (Smith, 1708.07120)."""

    def schedule(step: int, total_steps: int) -> float:
        position = (step + 1) / (total_steps + 1)
        return peak * (position / peak_at if position <= peak_at else (1 - position) / (1 - peak_at))

    return schedule


def ramp(end: float, until: float, start: float = 0.0) -> Schedule:
    """Linear from `start` to `end` over the first fraction `until` of all steps, `end` after that."""

    def schedule(step: int, total_steps: int) -> float:
        position = step / (until * total_steps) if until else 1.0
        return start + (end - start) * min(1.0, position)

    return schedule


def piecewise(*pieces: tuple[float, float]) -> Schedule:
    """Pairs (from this fraction of all steps, value), rising, the first from 0: the last one reached holds."""

    def schedule(step: int, total_steps: int) -> float:
        return [value for start, value in pieces if step >= start * total_steps][-1]

    return schedule


def cosine(peak: float) -> Schedule:
    """From `peak` down to 0 along half a cosine (Loshchilov and Hutter, 1608.03983, eq. 5, without restarts)."""

    def schedule(step: int, total_steps: int) -> float:
        return 0.5 * peak * (1 + math.cos(math.pi * step / total_steps))

    return schedule
