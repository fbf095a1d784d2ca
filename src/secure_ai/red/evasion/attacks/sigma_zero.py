"""Sigma-zero: the smallest number of changed values by gradient (2402.01879), l0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from secure_ai.red.evasion.contract import SMALL, STEPS, AttackEntry, Passes, Shard, on_shard
from secure_ai.red.evasion.math.active_set import Criterion, keep_samples, per_sample
from secure_ai.red.evasion.math.adam import adam_direction
from secure_ai.red.evasion.math.hyperplane import length
from secure_ai.red.evasion.math.input_gradient import evaluate
from secure_ai.red.evasion.math.scale import to_usual_logits
from secure_ai.red.evasion.math.schedules import annealed

STEP_FALL = 0.1  # the step size ends at this fraction of where it began
TINY = 1e-12


@dataclass(slots=True)
class _State:
    """What a search keeps of each sample.

    Attributes:
        mean, square: Adam's moments of the gradient.
        threshold: (R,) values of `delta` below it are set to 0.
        scale: (R,) what brings the margin to the size of an ordinary network's.
    """

    delta: Tensor
    mean: Tensor
    square: Tensor
    threshold: Tensor
    scale: Tensor


@on_shard
def sigma_zero(
    shard: Shard,
    *,
    steps: int = 1000,
    step_size: float = 1.0,
    sigma: float = 0.001,
    threshold: float = 0.3,
    threshold_step: float = 0.01,
    minimize: bool = True,
) -> None:
    """Descend on the margin plus a smooth count of the changed values, and drop the small ones (algorithm 1).

    The count is sum(delta^2 / (delta^2 + sigma)) over the number of values; its threshold rises after a success and
    falls after a failure.

    Note:
        Steps are Adam's, as in the authors' public code; the paper's algorithm writes a plain gradient step.

    Args:
        steps: gradient updates.
        step_size: first step size of Adam (whose gradients have linf norm 1), annealed to a tenth.
        sigma: smoothness of the count.
        threshold: first size below which a change is dropped.
        threshold_step: its change, relative to the step size.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.
    """
    best, samples = shard.best, shard.best.samples()
    values = best.x[0].numel()
    zeros = torch.zeros_like(samples.x)
    state = _State(
        zeros, zeros.clone(), zeros.clone(), zeros.new_full((len(samples),), threshold), zeros.new_ones(len(samples))
    )
    for step in range(steps + 1):
        if not len(samples):
            break
        x_adv = samples.x + state.delta
        hinge = partial(_hinge, criterion=samples.criterion)
        logits, _, gradient = evaluate(shard.target, x_adv, hinge, gradient=step < steps)
        if step == 0:  # the clean image
            state.scale = to_usual_logits(logits)
        adversarial = best.offer_nearest(samples, x_adv, logits, "l0")
        rate = annealed((step_size, step_size * STEP_FALL), step, steps)
        squares = state.delta.square()
        total = per_sample(state.scale) * gradient + 2 * sigma * state.delta / (squares + sigma).square() / values
        total = total / per_sample(length(total.flatten(1), "linf").clamp_min(TINY))
        moved = state.delta - rate * adam_direction(total, state.mean, state.square, step + 1)
        moved = (samples.x + moved).clamp_(0, 1) - samples.x
        change = rate * threshold_step
        state.threshold = (state.threshold + torch.where(adversarial, change, -change)).clamp(0, 1)
        state.delta = moved * (moved.abs() >= per_sample(state.threshold))
        keep_samples(best.unfinished(samples, shard.budget.eps, minimize=minimize), samples, state)


def _hinge(logits: Tensor, criterion: Criterion) -> Tensor:
    """max(-margin, 0), which is lowered."""
    return (-criterion.margin(logits)).clamp_min(0)


ENTRY = AttackEntry(
    name="sigma-zero",
    attack=sigma_zero,
    norms=("l0",),
    knowledge="white-box",
    kind="minimal",
    source="Cina et al., 2402.01879, algorithm 1",
    limits={
        "steps": STEPS,
        "step_size": SMALL,
        "sigma": SMALL,
        "threshold": (0.0, 1.0),
        "threshold_step": (0.0, 1.0),
    },
    passes=lambda settings, classes, norm: Passes(settings["steps"] + 1, settings["steps"]),
    iterative=lambda settings: settings["steps"] > 1,
)
