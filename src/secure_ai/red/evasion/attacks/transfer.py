"""Attacks on a target that are made elsewhere: on a surrogate network, or read from saved examples.

Neither is in the catalogue as it stands: both need something bound first (`bind_borrowed`), a network or a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import AttackSettingsError
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.pgd import TRAVEL
from secure_ai.red.evasion.contract import Attack, AttackEntry, AttackPlan
from secure_ai.red.evasion.math import projections
from secure_ai.red.evasion.math.active_set import Goal, active_rows, where_rows
from secure_ai.red.evasion.math.input_gradient import leaf, slope
from secure_ai.red.evasion.math.losses import cross_entropy

DIGEST_CHARACTERS = 12


@torch.no_grad()
def transfer(
    target: NetworkTarget,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    network: NetworkTarget,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    surrogate: str = "",
    steps: int = 40,
    restarts: int = 1,
    momentum: float = 1.0,
) -> Tensor:
    """PGD with momentum on a surrogate (MI-FGSM, 1710.06081, section 3.2); the target is never asked.

    Unlike `pgd` a sample does not leave when the surrogate is fooled: an example deep in the wrong class transfers
    better than one at the surrogate's boundary (1611.02770, section 3). Every step's passes are `network`'s.

    Args:
        target: not used; see `Attack`, as for all arguments down to `active`.
        network: the surrogate.
        surrogate: the start of its digest, so that the attack's text names the network it was made on.
        steps: gradient updates a restart, each of 2.5 / `steps` eps.
        restarts: random starts; the one that the surrogate is surest of is kept.
        momentum: decay of the accumulated gradient; 1.0 as in the paper's section 4.1.

    Returns:
        x_adv (N, C, H, W): the last iterate.
    """
    rows = active_rows(y, active)
    goal, result = Goal(y, target_label).at(rows), x.clone()
    best = torch.full((len(rows),), -torch.inf)
    with network.attacked():
        for _ in range(restarts):
            start = projections.random_start(x, budget, generator)[rows]
            x_adv = _climb(network, x[rows], start, goal, budget, steps, momentum)
            strength = goal.strength(network.logits(x_adv))
            better = strength > best
            result[rows] = where_rows(better, x_adv, result[rows])
            best = torch.maximum(best, strength)
    return result


def _climb(
    network: NetworkTarget,
    x: Tensor,
    x_adv: Tensor,
    goal: Goal,
    budget: PerturbationBudget,
    steps: int,
    momentum: float,
) -> Tensor:
    """The last of `steps` projected steps from `x_adv` up the loss of `network`, all (R, C, H, W)."""
    velocity = torch.zeros_like(x)
    for _ in range(steps):
        with torch.enable_grad():
            point = leaf(x_adv)
            logits = network.logits(point)
            aim = goal.target_label
            gradient = slope(cross_entropy(logits, goal.y) if aim is None else -cross_entropy(logits, aim), point)
        mean_size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(projections.SMALLEST)
        velocity = momentum * velocity + gradient / mean_size
        direction = velocity
        if budget.norm == "l1":  # few values move in a step: spend none on those that [0, 1] stops
            stopped = ((x_adv <= 0) & (velocity < 0)) | ((x_adv >= 1) & (velocity > 0))
            direction = velocity.masked_fill(stopped, 0)
        step = (TRAVEL / steps) * budget.eps * projections.steepest(direction, budget.norm)
        x_adv = projections.project(x_adv + step, x, budget)
    return x_adv


def saved_examples(
    target: NetworkTarget,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    lookup: Mapping[bytes, Tensor],
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    file: str = "",
    made_for: str = "",
) -> Tensor:
    """Examples made earlier, found by their clean image; an image without one comes back as it is.

    Args:
        target: not used; see `Attack`, as for all arguments down to `active`.
        lookup: `image_key` of a clean image to its example (C, H, W) float32.
        file: where they were read.
        made_for: the start of the digest of the network they were made for.

    Returns:
        x_adv (N, C, H, W).
    """
    result = x.clone()
    for row in active_rows(y, active).tolist():
        result[row] = lookup.get(image_key(x[row]), x[row])
    return result


def image_key(image: Tensor) -> bytes:
    """What an image (C, H, W) float32 is found by: its bytes."""
    return bytes(image.contiguous().numpy().data)


def _unbound(*arguments: Any, **settings: Any) -> Tensor:
    raise AttackSettingsError("this attack needs a surrogate or a file", where="--attack", expected="bound plans")


BORROWED: dict[str, AttackEntry] = {
    "transfer": AttackEntry(
        attack=cast(Attack, _unbound),
        norms=("linf", "l2", "l1"),
        knowledge="transfer",
        kind="budget",
        source="Dong et al., 1710.06081, section 3.2; transfer: Papernot et al., 1605.07277",
        settings={"steps": 40, "restarts": 1, "momentum": 1.0},
        limits={"steps": (1, 100_000), "restarts": (1, 1000), "momentum": (0.0, 1.0)},
    ),
    "examples": AttackEntry(
        attack=cast(Attack, _unbound),
        norms=("linf", "l2", "l1", "l0"),
        knowledge="transfer",
        kind="minimal",  # made for another budget, perhaps: what lies outside this one does not count
        source="saved examples",
        settings={"file": ""},
    ),
}
"""Attacks that `parse_attacks` knows by name and that only `bind_borrowed` makes callable."""

Examples = tuple[Mapping[bytes, Tensor], str]  # what `saved_examples` looks up, and whom they were made for
ReadExamples = Callable[[str], Examples]


def refuse_unbound(plans: Sequence[AttackPlan], *, surrogate: bool, examples: bool) -> None:
    """Raises AttackSettingsError for a plan that `bind_borrowed` could not make callable.

    Args:
        surrogate: whether there is one.
        examples: whether saved ones can be read.
    """
    for plan in plans:
        if plan.entry is BORROWED["transfer"] and not surrogate:
            raise no_surrogate()
        if plan.entry is BORROWED["examples"] and not examples:
            raise no_examples(plan)


def names_transfer(plans: Sequence[AttackPlan]) -> bool:
    """Whether one of `plans` needs a surrogate."""
    return any(plan.entry is BORROWED["transfer"] for plan in plans)


def bind_borrowed(
    plans: Sequence[AttackPlan], *, network: NetworkTarget | None, read: ReadExamples | None = None
) -> tuple[AttackPlan, ...]:
    """Every plan callable: `transfer` gets its surrogate, `examples` what `read` finds in its file.

    Args:
        network: the surrogate, another network than the target.
        read: file name to its examples.

    Raises:
        AttackSettingsError: `transfer` without a surrogate or with one that offers no gradients, or `examples` where
            none can be read.
    """
    return tuple(_bound(plan, network, read) for plan in plans)


def _bound(plan: AttackPlan, network: NetworkTarget | None, read: ReadExamples | None) -> AttackPlan:
    if plan.entry is BORROWED["transfer"]:
        if network is None:
            raise no_surrogate()
        if network.access != "gradients":
            raise AttackSettingsError(
                "transfer follows the surrogate's gradients",
                where=network.name,
                expected="gradients",
                got=network.access,
            )
        settings = {**plan.settings, "surrogate": network.digest[:DIGEST_CHARACTERS]}
        return _callable(plan, cast(Attack, partial(transfer, network=network)), settings)
    if plan.entry is BORROWED["examples"]:
        if read is None:
            raise no_examples(plan)
        lookup, made_for = read(str(plan.settings["file"]))
        settings = {**plan.settings, "made_for": made_for[:DIGEST_CHARACTERS]}
        return _callable(plan, cast(Attack, partial(saved_examples, lookup=lookup)), settings)
    return plan


def no_surrogate() -> AttackSettingsError:
    """The refusal of `transfer` where no surrogate was named."""
    return AttackSettingsError(
        "transfer makes its examples on another network",
        where="--attack transfer",
        expected="a surrogate",
        got="none",
        hint="--surrogate FILE [--surrogate-arch A]",
    )


def no_examples(plan: AttackPlan) -> AttackSettingsError:
    """The refusal of `examples` where no file can be read."""
    return AttackSettingsError("saved examples cannot be scored here", where="--attack", got=plan.text)


def example_files(plans: Sequence[AttackPlan]) -> list[str]:
    """The files that `plans` name."""
    return [str(plan.settings["file"]) for plan in plans if plan.entry is BORROWED["examples"]]


def _callable(plan: AttackPlan, attack: Attack, settings: dict[str, Any]) -> AttackPlan:
    return AttackPlan(plan.name, replace(plan.entry, attack=attack), settings, plan.margin_left)
