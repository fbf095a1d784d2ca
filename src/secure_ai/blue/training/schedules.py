"""Learning-rate schedules: functions of the step."""

from __future__ import annotations

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
