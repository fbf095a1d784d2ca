"""An attack that is made on another network, the surrogate: `suite/borrowed.py` binds it to one."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.errors import AttackSettingsError
from secure_ai.models.target.target import NetworkTarget, Target
from secure_ai.red.evasion.attacks.pgd import TRAVEL, accumulated, cross_entropy_against, unstopped
from secure_ai.red.evasion.contract import RESTARTS, STEPS, AttackEntry, Passes, Settings, Shard, on_shard, settings_of
from secure_ai.red.evasion.math import projections
from secure_ai.red.evasion.math.active_set import ActiveSamples
from secure_ai.red.evasion.math.input_gradient import evaluate


@on_shard
def transfer(
    shard: Shard, *, network: NetworkTarget, steps: int = 40, restarts: int = 1, momentum: float = 1.0
) -> None:
    """PGD with momentum on a surrogate (MI-FGSM, 1710.06081, section 3.2); the target is never queried.

    Unlike `pgd` a sample does not leave when the surrogate is fooled: an example deep in the wrong class transfers
    better than one at the surrogate's boundary (1611.02770, section 3). Every step's passes are `network`'s.

    Args:
        network: the surrogate.
        steps: gradient updates a restart, each of 2.5 / `steps` eps.
        restarts: random starts; the one that the surrogate is surest of is kept.
        momentum: decay of the accumulated gradient; 1.0 as in the paper's section 4.1.

    The result is the last iterate.
    """
    best, budget, samples = shard.best, shard.budget, shard.best.samples()
    never = torch.zeros_like(samples.index, dtype=torch.bool)
    with network.attacked():
        for _ in range(restarts):
            start = projections.random_start(best.x, budget, shard.generator)[samples.index]
            x_adv = _last_iterate(network, samples, start, budget, steps, momentum)
            margin = samples.criterion.margin(network.logits(x_adv))
            best.offer(samples.index, x_adv, adversarial=never, score=margin)


def _last_iterate(
    network: Target, samples: ActiveSamples, x_adv: Tensor, budget: PerturbationBudget, steps: int, momentum: float
) -> Tensor:
    """After `steps` projected steps from `x_adv` that raise the loss of `network`, (R, C, H, W)."""
    objective = partial(cross_entropy_against, criterion=samples.criterion)
    velocity = torch.zeros_like(x_adv)
    for _ in range(steps):
        _, _, gradient = evaluate(network, x_adv, objective)
        velocity = accumulated(velocity, gradient, momentum)
        direction = unstopped(velocity, x_adv) if budget.norm == "l1" else velocity
        step = (TRAVEL / steps) * budget.eps * projections.steepest(direction, budget.norm)
        x_adv = projections.project(x_adv + step, samples.x, budget)
    return x_adv


def _unbound(*arguments: Any, **settings: Any) -> Tensor:
    raise AttackSettingsError("this attack needs a surrogate", where="--attack", expected="bound plans")


def _passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    """Of the surrogate."""
    steps = settings["restarts"] * settings["steps"]
    return Passes(steps + settings["restarts"], steps)


ENTRY = AttackEntry(
    name="transfer",
    attack=_unbound,
    norms=("linf", "l2", "l1"),
    knowledge="transfer",
    kind="budget",
    source="Dong et al., 1710.06081, section 3.2; transfer: Papernot et al., 1605.07277",
    settings=settings_of(transfer),
    limits={"steps": STEPS, "restarts": RESTARTS, "momentum": (0.0, 1.0)},
    passes=_passes,
)
