"""The defences as one value; their networks are imported when a plan asks for them, because they need torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_ai.core.result import Result
from secure_ai.runs.cases.case import Case
from secure_ai.runs.engine.measure import Joint, Network
from secure_ai.runs.recipe.recipe import Recipe


def _networks(recipe: Recipe) -> tuple[Network, ...]:
    from secure_ai.runs.cases.defences.networks import networks

    return networks(recipe)


def _joints(recipe: Recipe) -> tuple[Joint[Any], ...]:
    return ()


def _files(found: Result, recipe: Recipe) -> Mapping[str, bytes]:
    return {}


CASE = Case(
    id="defences",
    section=lambda recipe: recipe.defences,
    networks=_networks,
    joints=_joints,
    eps=lambda recipe: recipe.defences.eps,
    input_shape=(1, 28, 28),
    classes=10,
    gallery=("adversarial_examples_defences", "Adversarial examples for the defences; prediction and confidence below"),
    figures=(),
    threats=(),
    charts=(),
    files=_files,
)
