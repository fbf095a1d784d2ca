"""What the reference-grade attacks cost: forward and backward passes of a sample that is never broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.core.budget import Norm
from secure_ai.red.evasion.attacks.apgd import RADIUS_SCHEDULE


@dataclass(frozen=True, slots=True)
class Cost:
    """Passes of one sample that an attack never breaks."""

    forward: int
    backward: int


def _apgd_cost(settings: Mapping[str, Any], norm: Norm, aims: int) -> Cost:
    scheduled = settings["radius_schedule"] and norm == "l1" and settings["steps"] >= len(RADIUS_SCHEDULE)
    ascents = len(RADIUS_SCHEDULE) if scheduled else 1
    runs = aims * settings["restarts"] * settings["eot_samples"]
    return Cost(runs * (settings["steps"] + ascents), runs * settings["steps"])


def _targeted_apgd_cost(settings: Mapping[str, Any], norm: Norm, classes: int) -> Cost:
    ascents = _apgd_cost(settings, norm, min(settings["targets"], classes - 1))
    return Cost(1 + ascents.forward, ascents.backward)


def _odi_cost(settings: Mapping[str, Any], norm: Norm, classes: int) -> Cost:
    steps = settings["odi_steps"] + settings["steps"]
    return Cost(settings["restarts"] * (steps + 1), settings["restarts"] * steps)


def _targeted_fab_cost(settings: Mapping[str, Any], norm: Norm, classes: int) -> Cost:
    runs = min(settings["targets"], classes - 1) * settings["restarts"]
    return Cost(1 + 2 * runs * settings["steps"], runs * settings["steps"])


def _steps_cost(settings: Mapping[str, Any], norm: Norm, classes: int) -> Cost:
    return Cost(settings["steps"] + 1, settings["steps"])


def _fab_cost(settings: Mapping[str, Any], norm: Norm, classes: int) -> Cost:
    steps = settings["restarts"] * settings["steps"]
    return Cost(2 * steps, steps * (classes - 1))


def _cw_cost(settings: Mapping[str, Any], norm: Norm, classes: int) -> Cost:
    searches = settings["binary_search_steps"]
    return Cost(searches * (settings["steps"] + 1), searches * settings["steps"])


def _deepfool_cost(settings: Mapping[str, Any], norm: Norm, classes: int) -> Cost:
    return Cost(1 + 2 * settings["steps"], min(settings["targets"], classes - 1) * settings["steps"])


COSTS: dict[str, Callable[[Mapping[str, Any], Norm, int], Cost]] = {
    "apgd-ce": lambda settings, norm, classes: _apgd_cost(settings, norm, 1),
    "apgd-dlr": lambda settings, norm, classes: _apgd_cost(settings, norm, 1),
    "apgd-t": _targeted_apgd_cost,
    "odi-pgd": _odi_cost,
    "fab": _fab_cost,
    "fab-t": _targeted_fab_cost,
    "square": lambda settings, norm, classes: Cost(settings["restarts"] * settings["query_budget"], 0),
    "ddn": _steps_cost,
    "fmn": _steps_cost,
    "cw": _cw_cost,
    "deepfool": _deepfool_cost,
    "sigma-zero": _steps_cost,
    "hopskipjump": lambda settings, norm, classes: Cost(settings["query_budget"], 0),
}
"""Name -> the passes of one sample of an untargeted attack, from its settings, the norm and the number of classes.

Exact for a sample that is never broken; with `minimize` for every sample. HopSkipJump may stop earlier.
"""
