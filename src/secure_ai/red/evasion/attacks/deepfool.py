"""DeepFool (1511.04599): step onto the nearest linearised boundary until across, l2 and linf."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.red.evasion.attacks.apgd import classes_to_try
from secure_ai.red.evasion.contract import STEPS, TARGETS, AttackEntry, Passes, Settings, Shard, on_shard
from secure_ai.red.evasion.math.active_set import keep_samples
from secure_ai.red.evasion.math.boundary import nearest_boundary
from secure_ai.red.evasion.math.hyperplane import DUAL, length

SLACK = 1e-4  # each step's least length: where clipping eats a part of every step, none would ever cross
TINY = 1e-12


@dataclass(slots=True)
class _State:
    """`total` is the sum of steps, neither clipped to [0, 1] nor overshot."""

    x_adv: Tensor
    total: Tensor


@on_shard
def deepfool(shard: Shard, *, steps: int = 50, overshoot: float = 0.02, targets: int = 9) -> None:
    """DeepFool (1511.04599, algorithm 2; linf: section 3.3).

    With `target_label` a sample costs `2 * steps` forward and `steps` backward passes. A broken sample leaves: this
    attack does not make a success smaller.

    Args:
        steps: linearisations.
        overshoot: how much further than the boundary to go, relative to the whole distance.
        targets: likeliest wrong classes whose boundaries are looked at; with `target_label` only that one.

    The result is the first success, be it outside eps, else the iterate with the highest margin.
    """
    best, norm, towards = shard.best, shard.budget.norm, classes_to_try(shard, targets)
    samples = best.samples()
    state = _State(samples.x.clone(), torch.zeros_like(samples.x))
    for _ in range(steps):
        if not len(samples):
            break
        here = [classes[samples.index] for classes in towards]
        leave = samples.y if shard.target_label is None else None
        gap, normal = nearest_boundary(shard.target, state.x_adv, leave, here, norm)
        state.total = state.total + _onto(gap, normal, norm).view_as(samples.x)
        state.x_adv = (samples.x + (1 + overshoot) * state.total).clamp_(0, 1)
        adversarial = best.offer_nearest(samples, state.x_adv, shard.target.logits(state.x_adv), norm)
        keep_samples(~adversarial, samples, state)


def _onto(gap: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    size = (gap / length(normal, DUAL[norm]).clamp_min(TINY) + SLACK)[:, None]
    return size * (normal.sign() if norm == "linf" else normal / normal.norm(dim=1, keepdim=True).clamp_min(TINY))


def _passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    return Passes(1 + 2 * settings["steps"], min(settings["targets"], classes - 1) * settings["steps"])


ENTRY = AttackEntry(
    name="deepfool",
    attack=deepfool,
    norms=("linf", "l2"),
    knowledge="white-box",
    kind="minimal",
    source="Moosavi-Dezfooli et al., 1511.04599, algorithm 2 and section 3.3",
    limits={"steps": STEPS, "overshoot": (0.0, 1.0), "targets": TARGETS},
    passes=_passes,
    iterative=lambda settings: settings["steps"] > 1,
)
