"""FAB: the fast adaptive boundary attack (1907.02044), a minimum-norm attack for linf, l2 and l1.

Every step linearises the decision boundary at the iterate, projects both the iterate and the clean image onto it within
[0, 1], overshoots a little and leans towards the clean image; from a success it steps back towards the clean image.

Note:
    As in AutoAttack, without the paper's final search along the line to the clean image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.seeds import normal, uniform
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.apgd import classes_to_try
from secure_ai.red.evasion.contract import (
    RESTARTS,
    STEPS,
    TARGETS,
    AttackEntry,
    CountsAs,
    Passes,
    Settings,
    Shard,
    on_shard,
)
from secure_ai.red.evasion.math.active_set import ActiveSamples, Best, keep_samples, per_sample
from secure_ai.red.evasion.math.boundary import nearest_boundary
from secure_ai.red.evasion.math.hyperplane import length, towards_hyperplane

OVERSHOOT = 1.05  # eta of 1907.02044, section 2.4, as are the next two
BACKWARD = 0.9  # beta
LEAN_MOST = 0.1  # alpha_max
START_DISTANCE = 0.5  # in eps: where a restart begins
TINY = 1e-12
SHORTEST = 1e-8  # stands for a step of length 0


@dataclass(slots=True)
class _State:
    """`towards` is the class aimed at; None for the untargeted attack."""

    towards: Tensor | None
    x_adv: Tensor


@on_shard
def fab(shard: Shard, *, steps: int = 100, restarts: int = 1, minimize: bool = True) -> None:
    """Untargeted FAB (1907.02044, algorithm 1): towards the boundary that is nearest by linearisation.

    With many classes `fab_targeted` is cheaper. With `target_label` given only that boundary counts: one backward pass
    a step.

    Args:
        steps: linearisations per run.
        restarts: runs; the first starts at the clean image, the others at random at a distance of half of eps.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.
    """
    _runs(shard, (shard.target_label,), steps=steps, restarts=restarts, minimize=minimize)


@on_shard
def fab_targeted(shard: Shard, *, steps: int = 100, restarts: int = 1, targets: int = 9, minimize: bool = True) -> None:
    """FAB-T: towards the boundary to each of the likeliest wrong classes in turn (2003.01690, section 5).

    Args:
        steps, restarts, minimize: as `fab`, for each class.
        targets: classes tried, at most K - 1.

    The result is that of `fab`. With `target_label` given, that class is the only one tried, and the goal.
    """
    _runs(shard, classes_to_try(shard, targets), steps=steps, restarts=restarts, minimize=minimize)


def _runs(shard: Shard, towards: tuple[Tensor | None, ...], *, steps: int, restarts: int, minimize: bool) -> None:
    """`restarts` runs for every entry of `towards`; the first of them starts at the clean image, the rest at random."""
    best, budget = shard.best, shard.budget
    for number in range(len(towards) * restarts):
        start = best.x if number % restarts == 0 else _random_start(best.x, budget, shard.generator)
        samples = best.samples() if minimize else best.samples(farther_than=budget.eps)
        if not len(samples):
            break
        classes = towards[number // restarts]
        state = _State(None if classes is None else classes[samples.index], start[samples.index])
        for _ in range(steps):
            if not len(samples):
                break
            _step(shard.target, samples, state, budget.norm, best)
            keep_samples(best.unfinished(samples, budget.eps, minimize=minimize), samples, state)


def _step(target: Target, samples: ActiveSamples, state: _State, norm: Norm, best: Best) -> None:
    """Linearise at the iterate, go to the boundary, and back towards the clean image from a success."""
    towards = _other_classes(target, samples.y) if state.towards is None else (state.towards,)
    leave = samples.y if samples.target_label is None else None
    gap, normal = nearest_boundary(target, state.x_adv, leave, towards, norm)
    state.x_adv = _onto_boundary(state.x_adv, samples.x, gap, normal, norm)
    logits = target.logits(state.x_adv)
    best.offer_nearest(samples, state.x_adv, logits, norm)
    # by a hair counts here: a search that stayed there would be stuck on the boundary
    back = per_sample(torch.where(samples.criterion.is_adversarial(logits), BACKWARD, 1.0))
    state.x_adv = samples.x + (state.x_adv - samples.x) * back


def _onto_boundary(x_adv: Tensor, x: Tensor, gap: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    """Equation 9 of 1907.02044: the mean of both projections' overshoots, weighted by their lengths."""
    current, clean = x_adv.flatten(1), x.flatten(1)
    gap_clean = gap + (normal * (current - clean)).sum(dim=1)
    deltas = towards_hyperplane(
        torch.cat((current, clean)), torch.cat((normal, normal)), torch.cat((gap, gap_clean)), norm
    )
    near, far = deltas.split(len(x))
    lengths = length(deltas, norm).clamp_min(SHORTEST)
    near_length, far_length = lengths.split(len(x))
    lean = (near_length / (near_length + far_length)).clamp_max(LEAN_MOST)[:, None]
    moved = (current + OVERSHOOT * near) * (1 - lean) + (clean + OVERSHOOT * far) * lean
    return torch.clamp(moved, 0, 1).view_as(x)


def _other_classes(target: Target, y: Tensor) -> tuple[Tensor, ...]:
    return tuple((y + shift) % target.num_classes for shift in range(1, target.num_classes))


def _random_start(x: Tensor, budget: PerturbationBudget, generator: torch.Generator) -> Tensor:
    """At half of eps in a random direction, clipped to [0, 1]; for the whole shard."""
    if budget.norm == "linf":
        noise = 2 * uniform(x.shape, generator, x.device) - 1
    else:
        noise = normal(x.shape, generator, x.device)
    size = length(noise.flatten(1), budget.norm).clamp_min(TINY)
    return (x + noise * per_sample(START_DISTANCE * budget.eps / size)).clamp_(0, 1)


def _passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    steps = settings["restarts"] * settings["steps"]
    return Passes(2 * steps, steps * (classes - 1))


def _targeted_passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    steps = min(settings["targets"], classes - 1) * settings["restarts"] * settings["steps"]
    return Passes(1 + 2 * steps, steps)  # 1: the clean logits that order the classes


_SOURCE = "Croce and Hein, 1907.02044, algorithm 1"

FAB = AttackEntry(
    name="fab",
    attack=fab,
    norms=("linf", "l2", "l1"),
    knowledge="white-box",
    kind="minimal",
    source=_SOURCE,
    limits={"steps": STEPS, "restarts": RESTARTS},
    passes=_passes,
    iterative=lambda settings: settings["steps"] > 1,
)

FAB_T = AttackEntry(
    name="fab-t",
    attack=fab_targeted,
    norms=("linf", "l2", "l1"),
    knowledge="white-box",
    kind="minimal",
    source=f"{_SOURCE}; targeted: 2003.01690, section 5",
    limits={"steps": STEPS, "restarts": RESTARTS, "targets": TARGETS},
    passes=_targeted_passes,
    iterative=lambda settings: settings["steps"] > 1,
    counts_as=CountsAs(
        role="targeted", everywhere={"steps": 10, "targets": 3}, near={"steps": 100, "targets": 5}
    ),  # what APGD-T's least is
)
