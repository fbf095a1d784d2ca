"""From a recipe to its stages: the literal tables of what a run does and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.runs import lazy
from secure_ai.runs.recipe import Recipe
from secure_ai.runs.stage import Outputs, Stage, Work
from secure_ai.runs.stages import audits

REPORT_1 = "report-1"
REPORT_2 = "report-2"


@dataclass(frozen=True, slots=True)
class Row:
    """One stage of a report: its function, what it needs, its data, and seconds at the report's own size."""

    function: Callable[[Work], Outputs]
    needs: tuple[str, ...]
    data: tuple[str, ...]
    seconds: float
    scales: tuple[str, ...] = ()


TRAIN, TEST = ("train",), ("test",)

REPORT_1_ROWS: Mapping[str, Row] = {
    "baseline": Row(lazy.stage("report1_train", "baseline"), (), TRAIN, 35, ("epochs",)),
    "baseline/measure": Row(lazy.stage("report1_measure", "measure_baseline"), ("baseline",), TEST, 20),
    "defended-p": Row(lazy.stage("report1_train", "defended_published"), ("baseline",), TRAIN, 45, ("defence_epochs",)),
    "defended-p/measure": Row(
        lazy.stage("report1_measure", "measure_defended_published"), ("baseline", "defended-p"), TEST, 20
    ),
    "defended-l": Row(lazy.stage("report1_train", "defended_listing"), ("baseline",), TRAIN, 60, ("defence_epochs",)),
    "defended-l/measure": Row(
        lazy.stage("report1_measure", "measure_defended_listing"), ("baseline", "defended-l"), TEST, 45
    ),
    "poisoned": Row(lazy.stage("report1_train", "poisoned"), (), TRAIN, 35, ("epochs",)),
    "poisoned/measure": Row(lazy.stage("report1_measure", "measure_clean_label"), ("poisoned",), TEST, 5),
    "badnets": Row(lazy.stage("report1_train", "badnets"), (), TRAIN, 35, ("epochs",)),
    "badnets/measure": Row(lazy.stage("report1_measure", "measure_badnets"), ("badnets",), TEST, 5),
    "keras": Row(lazy.stage("exports", "report_1_keras"), ("baseline", "defended-p", "poisoned"), (), 15),
}

REPORT_2_ROWS: Mapping[str, Row] = {
    "baseline": Row(lazy.stage("report2", "train_baseline"), (), TRAIN, 130, ("epochs",)),
    "baseline/measure": Row(lazy.stage("report2", "measure_baseline"), ("baseline",), TEST, 40),
    "poisoned": Row(lazy.stage("report2", "train_poisoned"), (), TRAIN, 130, ("epochs",)),
    "poisoned/measure": Row(lazy.stage("report2", "measure_poisoned"), ("poisoned",), TEST, 15),
    "defended": Row(lazy.stage("report2", "train_defended"), ("baseline",), TRAIN, 220, ("defence_epochs",)),
    "defended/measure": Row(lazy.stage("report2", "measure_defended"), ("baseline", "defended"), TEST, 90),
}

MODE_STAGES: Mapping[str, tuple[str, ...]] = {
    "baseline": ("baseline", "baseline/measure"),
    "poisoned": ("poisoned", "poisoned/measure"),
    "adv_only": ("baseline", "baseline/measure"),
    "adv_training": ("baseline", "baseline/measure", "defended", "defended/measure"),
}

DEFAULT_EPOCHS = {"epochs": 5, "defence_epochs": {REPORT_1: 5, REPORT_2: 3}}
DEFAULT_IMAGES = {"train": 60_000, "test": 10_000}


def plan(recipe: Recipe, sizes: Mapping[str, int], assess: list[Stage]) -> list[Stage]:
    """The stages of `recipe`, in the order run.

    Args:
        sizes: images by role (`train`, `test`), for the forecast.
        assess: the stages for a network of the user's own, where there is one.
    """
    stages: list[Stage] = []
    if REPORT_1 in recipe.parts:
        stages += _report(REPORT_1, REPORT_1_ROWS, list(REPORT_1_ROWS), recipe.report_1.model_dump(), recipe, sizes)
    if REPORT_2 in recipe.parts:
        wanted = {name for mode in recipe.report_2.modes for name in MODE_STAGES[mode]}
        names = [name for name in REPORT_2_ROWS if name in wanted]
        settings = recipe.report_2.model_dump()
        del settings["modes"]
        stages += _report(REPORT_2, REPORT_2_ROWS, names, settings, recipe, sizes)
    if "assess" in recipe.parts:
        stages += assess
    if "audit" in recipe.parts:
        stages += audits.stages(recipe.seed)
    return stages


def _report(
    report: str,
    rows: Mapping[str, Row],
    names: list[str],
    settings: dict[str, Any],
    recipe: Recipe,
    sizes: Mapping[str, int],
) -> list[Stage]:
    settings = settings | {"seed": recipe.seed}
    return [
        Stage(
            id=f"{report}/{name}",
            function=rows[name].function,
            settings=settings,
            needs=tuple(f"{report}/{need}" for need in rows[name].needs),
            data=rows[name].data,
            cost_seconds=_seconds(report, rows[name], settings, sizes),
        )
        for name in names
    ]


def _seconds(report: str, row: Row, settings: Mapping[str, Any], sizes: Mapping[str, int]) -> float:
    seconds = row.seconds
    for role in row.data:
        seconds *= sizes.get(role, DEFAULT_IMAGES[role]) / DEFAULT_IMAGES[role]
    for key in row.scales:
        default = DEFAULT_EPOCHS[key]
        seconds *= settings[key] / (default[report] if isinstance(default, dict) else default)
    return seconds
