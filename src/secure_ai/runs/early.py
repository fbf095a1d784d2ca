"""What a recipe asks of its attacks, refused before anything is written, trained or run."""

from __future__ import annotations

from collections.abc import Callable

from secure_ai.core.budget import PerturbationBudget, parse_budget
from secure_ai.data.dataset import Dataset
from secure_ai.runs.recipe import Recipe


def refuse_attacks(recipe: Recipe, test: Callable[[], Dataset]) -> None:
    """Raise SecureAIError for a budget or a list of attacks that a stage of `recipe` could not use.

    Args:
        test: the test images; not asked for where no stage attacks with a list of the recipe's.
    """
    if "assess" in recipe.parts:
        asked, dataset = recipe.assess, test()
        channels, height, width = dataset.input_shape
        budget = parse_budget(asked.norm, asked.eps, channels * height * width)
        _refuse_list(asked.attack, budget, dataset, asked.n, surrogate=asked.surrogate is not None)
    if "suite" in recipe.parts:
        budget = PerturbationBudget("linf", recipe.report_1.eps)
        _refuse_list(recipe.suite.attack, budget, test(), recipe.suite.n, surrogate=False)


def _refuse_list(attack: str, budget: PerturbationBudget, dataset: Dataset, n: int, *, surrogate: bool) -> None:
    if attack == "fast":  # right in every norm, and so a run of known stages needs no torch
        return
    from secure_ai.red.evasion.catalogue import requested
    from secure_ai.red.evasion.transfer import bind_borrowed, names_transfer

    plans = requested(attack, budget.norm, min(n, len(dataset)), dataset.classes)
    if not (surrogate and names_transfer(plans)):
        bind_borrowed(plans, network=None)
