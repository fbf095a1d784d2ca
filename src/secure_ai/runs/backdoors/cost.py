"""Seconds that control networks will take on this machine, measured before the first is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from secure_ai.blue.backdoors import margin
from secure_ai.blue.backdoors.detectors import DETECTORS
from secure_ai.blue.backdoors.fleet import recipe
from secure_ai.blue.backdoors.inversion import FORMS, every_class, every_pair, invert
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.runs.engine.forecast import fastest, network_seconds, work_seconds
from secure_ai.runs.engine.measure import Passes

TIMED_STEPS = 2  # of each form of search


def members_seconds(
    target: NetworkTarget, indices: Sequence[int], training: Dataset, search: Dataset, held_out: Dataset, *, seed: int,
    largest: int, dtype: torch.dtype,
) -> float:  # fmt: skip
    """Forecast for training and measuring the control networks `indices`.

    Args:
        target: one of them, untrained.
        training, search, held_out, seed, largest, dtype: as of `trained_fleet`.
    """
    recipes = [recipe(index, seed, len(training), largest) for index in indices]
    driven = target.num_classes * margin.STARTS * margin.STEPS
    passes = Passes(
        forward=len(indices) * (driven + len(held_out)),
        backward=len(indices) * driven,
        training=sum(own.epochs * own.images for own in recipes),
    )
    searches = len(indices) * sum(_search_seconds(name, target, search, seed) for name in FORMS)
    return searches + work_seconds(passes, network_seconds(target.network, target.input_shape, dtype))


def _search_seconds(name: str, target: NetworkTarget, search: Dataset, seed: int) -> float:
    """Of the searches of one form: of a small network not its passes are the most of it, but the changes to images."""
    form, labels = FORMS[name], search.labels
    own = every_pair(labels, target.num_classes, form, seed)[0] if DETECTORS[name].paired else (
        every_class(labels, target.num_classes, form, seed)
    )  # fmt: skip
    few = replace(form, steps=TIMED_STEPS)
    return form.steps / TIMED_STEPS * fastest(lambda: invert(target, search.images, own, few, seed), target.device)
