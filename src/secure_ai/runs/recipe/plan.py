"""From a recipe to its stages: the literal tables of what a run does and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.runs.engine import lazy
from secure_ai.runs.engine.execute import code_digest
from secure_ai.runs.engine.stage import Outputs, Stage, Work
from secure_ai.runs.recipe.recipe import Recipe, Report1Section, Report2Section
from secure_ai.runs.stages import audits

REPORT_1 = "report-1"
REPORT_2 = "report-2"


@dataclass(frozen=True, slots=True)
class Row:
    """One stage of a report.

    Attributes:
        settings: keys of the report's section that decide its result; no other can make it stale.
        seconds: at the report's own size, measured on 2 cores with AVX512-BF16.
        scales: settings that the seconds grow with.
    """

    function: Callable[[Work], Outputs]
    needs: tuple[str, ...]
    data: tuple[str, ...]
    settings: tuple[str, ...]
    seconds: float
    scales: tuple[str, ...] = ()


TRAIN, TEST = ("train",), ("test",)
FIT = ("seed", "batch_size", "learning_rate", "epochs")
ATTACK = ("seed", "eps", "pgd_steps")
PATCH_1 = ("target_label", "patch_size", "patch_value")
BADNETS = (*PATCH_1, "badnets_place")
PATCH_2 = ("source_label", "target_label", "patch_size")
FIT_1 = (*FIT, "validation_share")
DEFEND_1 = ("seed", "batch_size", "learning_rate", "defence_epochs", "eps", "adversarial_ratio")
DEFEND_2 = ("seed", "batch_size", "defence_learning_rate", "defence_epochs", "eps")
EPOCHS, DEFENCE_EPOCHS = ("epochs",), ("defence_epochs",)


def _train_1(function: str) -> Callable[[Work], Outputs]:
    return lazy.stage("report1_train", function)


def _measure_1(function: str) -> Callable[[Work], Outputs]:
    return lazy.stage("report1_measure", function)


def _report_2(function: str) -> Callable[[Work], Outputs]:
    return lazy.stage("report2", function)


REPORT_1_ROWS: Mapping[str, Row] = {
    "baseline": Row(_train_1("baseline"), (), TRAIN, FIT_1, 29, EPOCHS),
    "baseline/measure": Row(_measure_1("measure_baseline"), ("baseline",), TEST, (*ATTACK, *BADNETS), 18),
    "defended-p": Row(_train_1("defended_published"), ("baseline",), TRAIN, DEFEND_1, 38, DEFENCE_EPOCHS),
    "defended-p/measure": Row(_measure_1("measure_defended_published"), ("baseline", "defended-p"), TEST, ATTACK, 14),
    "defended-l": Row(_train_1("defended_listing"), ("baseline",), TRAIN, DEFEND_1, 48, DEFENCE_EPOCHS),
    "defended-l/measure": Row(_measure_1("measure_defended_listing"), ("baseline", "defended-l"), TEST, ATTACK, 35),
    "poisoned": Row(_train_1("poisoned"), (), TRAIN, (*FIT_1, *PATCH_1, "poison_count"), 34, EPOCHS),
    "poisoned/measure": Row(_measure_1("measure_clean_label"), ("poisoned",), TEST, ("seed", *PATCH_1), 1),
    "badnets": Row(_train_1("badnets"), (), TRAIN, (*FIT_1, *BADNETS, "badnets_rate"), 34, EPOCHS),
    "badnets/measure": Row(_measure_1("measure_badnets"), ("badnets",), TEST, ("seed", *BADNETS), 1),
    "keras": Row(lazy.stage("exports", "report_1_keras"), ("baseline", "defended-p", "poisoned"), (), (), 7),
}

REPORT_2_ROWS: Mapping[str, Row] = {
    "baseline": Row(_report_2("train_baseline"), (), TRAIN, FIT, 141, EPOCHS),
    "baseline/measure": Row(_report_2("measure_baseline"), ("baseline",), TEST, (*ATTACK, *PATCH_2, "first"), 52),
    "poisoned": Row(_report_2("train_poisoned"), (), TRAIN, (*FIT, *PATCH_2, "poison_count"), 137, EPOCHS),
    "poisoned/measure": Row(_report_2("measure_poisoned"), ("poisoned",), TEST, ("seed", *PATCH_2, "poison_count"), 10),
    "defended": Row(_report_2("train_defended"), ("baseline",), TRAIN, DEFEND_2, 189, DEFENCE_EPOCHS),
    "defended/measure": Row(_report_2("measure_defended"), ("baseline", "defended"), TEST, (*ATTACK, "first"), 68),
}

MODE_STAGES: Mapping[str, tuple[str, ...]] = {
    "baseline": ("baseline", "baseline/measure"),
    "poisoned": ("poisoned", "poisoned/measure"),
    "adv_only": ("baseline", "baseline/measure"),
    "adv_training": ("baseline", "baseline/measure", "defended", "defended/measure"),
}

COMPARED: Mapping[str, str] = {
    "report-1/baseline": "report1-cnn",
    "report-1/defended-p": "report1-cnn",
    "report-1/defended-l": "report1-cnn",
    "report-2/baseline": "report2-cnn",
    "report-2/defended": "report2-cnn",
}
"""Stage -> architecture: the networks of the transfer matrix and of the suite."""

SUITE_SECONDS: Mapping[str, tuple[float, float]] = {
    "report-1/baseline": (3, 0.9),
    "report-1/defended-p": (3, 0.7),
    "report-1/defended-l": (44, 65),
    "report-2/baseline": (9, 4.9),
    "report-2/defended": (10, 5.5),
}
"""For 1,000 images, the verdict's probes included: `fast` on 1,000, `autoattack` on 10,000.

What takes long is an image that holds until the last attack.
"""

AS_REPORTED = {REPORT_1: Report1Section(), REPORT_2: Report2Section()}
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
    if "suite" in recipe.parts:
        stages += _suites(recipe, [stage.id for stage in stages], sizes)
    stages += _transfer_matrix(recipe, [stage.id for stage in stages], sizes)
    if "assess" in recipe.parts:
        stages += assess
    if "audit" in recipe.parts:
        stages += audits.stages(recipe.seed, code_digest())
    return stages


def _suites(recipe: Recipe, planned: list[str], sizes: Mapping[str, int]) -> list[Stage]:
    """The recipe's suite on every network of this run that was not poisoned, at its own report's eps."""
    eps = {REPORT_1: recipe.report_1.eps, REPORT_2: recipe.report_2.eps}
    work = min(recipe.suite.n, sizes.get("test", DEFAULT_IMAGES["test"])) / 1000
    suite = 0 if recipe.suite.attack == "fast" else 1  # a list of the user's own is taken to be as long as AutoAttack
    return [
        Stage(
            id=f"{stage}/suite",
            function=lazy.stage("suites", "measure_suite"),
            settings={
                "attack": recipe.suite.attack,
                "n": recipe.suite.n,
                "seed": recipe.seed,
                "eps": eps[stage.partition("/")[0]],
                "network": stage,
                "arch": arch,
            },
            needs=(stage,),
            data=TEST,
            cost_seconds=SUITE_SECONDS[stage][suite] * work,
        )
        for stage, arch in COMPARED.items()
        if stage in planned
    ]


def _transfer_matrix(recipe: Recipe, planned: list[str], sizes: Mapping[str, int]) -> list[Stage]:
    """The matrix over the networks of this run that were not poisoned; none where there is only one."""
    networks = [(stage, arch) for stage, arch in COMPARED.items() if stage in planned]
    if len(networks) < 2:
        return []
    settings = recipe.transfer.model_dump() | {
        "seed": recipe.seed,
        "eps": recipe.report_1.eps if REPORT_1 in recipe.parts else recipe.report_2.eps,
        "networks": networks,
    }
    work = min(settings["n"], sizes.get("test", DEFAULT_IMAGES["test"])) / 500 * (2 + settings["steps"]) / 6
    return [
        Stage(
            id="transfer/matrix",
            function=lazy.stage("transfers", "report_networks"),
            settings=settings,
            needs=tuple(stage for stage, _ in networks),
            data=TEST,
            cost_seconds=1.2 * len(networks) * work,
        )
    ]


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
            settings={key: settings[key] for key in rows[name].settings},
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
        seconds *= settings[key] / getattr(AS_REPORTED[report], key)
    return seconds
