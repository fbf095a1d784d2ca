"""The defences as one value; their networks are imported when a plan asks for them, because they need torch."""

from __future__ import annotations

from secure_ai.runs.cases.case import Case
from secure_ai.runs.engine.measure import Network
from secure_ai.runs.recipe.recipe import Recipe


def _networks(recipe: Recipe) -> tuple[Network, ...]:
    from secure_ai.runs.cases.defences.networks import networks

    return networks(recipe)


CASE = Case(
    id="defences",
    section=lambda recipe: recipe.defences,
    networks=_networks,
    eps=lambda recipe: recipe.defences.eps,
    gallery=("adversarial_examples_defences", "Adversarial examples for the defences; prediction and confidence below"),
    shown_beside=frozenset({"report-1", "suite"}),
)
