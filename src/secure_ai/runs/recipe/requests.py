"""What a recipe asks of its attacks, refused before anything is written, trained or run."""

from __future__ import annotations

from collections.abc import Callable

from secure_ai.core.budget import Norm, parse_budget
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.access import Access
from secure_ai.runs.recipe.recipe import Recipe


def refuse_attacks(recipe: Recipe, access: Access | None, trains: bool, test: Callable[[], Dataset]) -> None:
    """Raise SecureAIError for a budget or a list of attacks that a stage of `recipe` could not use.

    Args:
        access: to the network of the user's own, where it was asked for.
        trains: whether the run has networks that the recipe's suite is for.
        test: the test images; not asked for where no stage attacks with a list of the recipe's.
    """
    if "assess" in recipe.parts:
        asked, dataset = recipe.assess, test()
        channels, height, width = dataset.input_shape
        budget = parse_budget(asked.norm, asked.eps, channels * height * width)
        _refuse_list(asked.attack, budget.norm, access, dataset, asked.n, surrogate=asked.surrogate is not None)
    if "suite" in recipe.parts and trains:
        _refuse_list(recipe.suite.attack, "linf", "gradients", test(), recipe.suite.n, surrogate=False)


def _refuse_list(attack: str, norm: Norm, access: Access | None, dataset: Dataset, n: int, *, surrogate: bool) -> None:
    if attack == "fast":  # right for every norm and access, and so a run of known stages needs no torch
        return
    from secure_ai.red.evasion.suite.borrowed import refuse_unbound
    from secure_ai.red.evasion.suite.parse import parse_suite

    suite = parse_suite(attack, norm, access or "gradients", min(n, len(dataset)), dataset.classes)
    refuse_unbound(suite.plans, surrogate=surrogate, examples=False)
