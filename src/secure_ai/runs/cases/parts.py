"""Parts that the rows of several cases are made of; imported only when a plan is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from secure_ai.data.dataset import Dataset
from secure_ai.red.poisoning.plant import Planted
from secure_ai.runs.engine.measure import Measure, Passes, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.stages.backdoor_detection import ScanSettings, committed, scan_row
from secure_ai.runs.stages.confidence import ConfidenceSettings, confidence_row
from secure_ai.runs.stages.distance import DistanceSettings, distance_row
from secure_ai.runs.stages.robust import AttackSettings, WhiteBoxSettings, suite_row, white_box_row

Parents = Mapping[str, Subject]


class FitSettings(Settings):
    """Training from scratch."""

    epochs: int
    batch_size: int
    learning_rate: float


def fit_passes(settings: FitSettings, n: int) -> Passes:
    """Of a training from scratch."""
    return Passes(training=settings.epochs * n)


def attacked(recipe: Recipe, eps: float, pgd_steps: int) -> tuple[Measure[Any], ...]:
    """FGSM and PGD on all test images; where the recipe asks for the suite, it and what the defence card tells."""
    attacks = ("fgsm", f"pgd:steps={pgd_steps}")
    white_box = white_box_row(WhiteBoxSettings(attacks=attacks, norm="linf", eps=eps))
    if "suite" not in recipe.parts:
        return (white_box,)
    own = recipe.suite
    distance = DistanceSettings(norm="linf", steps=own.distance_steps, n=own.distance_n, first_n=own.n)
    return (
        white_box,
        suite_row(AttackSettings(attack=own.attack, norm="linf", eps=eps, n=own.n)),
        distance_row(distance),
        confidence_row(ConfidenceSettings(eps=eps, steps=pgd_steps, n=own.confidence_n)),
    )


def scan_settings(recipe: Recipe, arch: str, *, trained: bool, later: bool = False) -> ScanSettings:
    """How the recipe scans for a backdoor: the networks that the run trains, or the user's own.

    A network that the run trains takes pixels as they are, so a plan knows whether some are committed: the scan is the
    same one in every recipe then. What a user's own takes is known once it is loaded.
    """
    known = trained and committed(arch, recipe.data.test)
    return ScanSettings(
        planted=trained, trained=trained, calibrate="backdoors" in recipe.parts and not known,
        control_networks=recipe.scan.control_networks, later=later,
    )  # fmt: skip


def scanned(
    recipe: Recipe, arch: str, *, answers: tuple[str, ...] = (), later: bool = True
) -> tuple[Measure[Any], ...]:
    """The scan of a network that the run trains, where the recipe asks for it; the first trains control networks."""
    if "scan" not in recipe.parts:
        return ()
    settings = scan_settings(recipe, arch, trained=True, later=later)
    return (scan_row(arch, settings, data=recipe.data.test, answers=answers),)


def poison_facts(planted: Planted, train: Dataset, target_label: int) -> dict[str, object]:
    """What a training on planted images says of them."""
    return {
        "poisoned": [int(index) for index in planted.indices],
        "poison_rate": planted.poison_rate,
        "of_target_class": int(np.count_nonzero(train.labels == target_label)),
    }
