"""How a run departs from the reports' protocols: only one that does not is compared with their figures."""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.data.dataset import Dataset
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.recipe.recipe import Recipe

# Digests of the whole of MNIST, as `Dataset.digest` gives them.
MNIST = {
    "train": "3c2c5587e5d9ee4013998ec08c89b87ffffe73301dfdf9f419cbfc41760ff37e",
    "test": "fd184a587a94f0360a68688877e9c94a2a00c8a070c21ad1bf8af634dfe65814",
}
NOT_PROTOCOL = frozenset({"modes"})  # which parts of report 2 are done, not how


def deviations(recipe: Recipe, data: Mapping[str, Dataset]) -> list[str]:
    """What differs, one text a difference; none for a run by the reports' own protocols."""
    found = [recipe.deviates] if recipe.deviates else []
    cases = [case for case in CASES if case.id in recipe.parts and case.figures]
    for case in cases:
        section = case.section(recipe)
        settings, protocol = section.model_dump(), type(section)().model_dump()
        found += [
            f"{case.id.replace('-', '_')}.{key} is {settings[key]}, not {value}"
            for key, value in protocol.items()
            if key not in NOT_PROTOCOL and settings[key] != value
        ]
    if found or cases:
        found += [
            f"the {role} data is {data[role].name} ({len(data[role])} images), not the whole of MNIST"
            for role, digest in MNIST.items()
            if role in data and data[role].digest != digest
        ]
    return found
