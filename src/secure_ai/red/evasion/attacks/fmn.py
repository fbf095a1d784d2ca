"""FMN: the fast minimum-norm attack (2102.12827), for every norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.red.evasion.contract import STEPS, AttackEntry, Passes, Shard, on_shard
from secure_ai.red.evasion.math.active_set import keep_samples, per_sample
from secure_ai.red.evasion.math.hyperplane import DUAL, length
from secure_ai.red.evasion.math.input_gradient import evaluate
from secure_ai.red.evasion.math.projections import distance
from secure_ai.red.evasion.math.scale import to_unit
from secure_ai.red.evasion.math.schedules import annealed

STEP_SIZE, GAMMA = (1.0, 0.01), (0.05, 0.001)  # from and to (2102.12827, section 3.1)
TINY = 1e-12


@dataclass(slots=True)
class _State:
    """`x_adv` lies within the present `radius` (R,)."""

    x_adv: Tensor
    radius: Tensor


@on_shard
def fmn(shard: Shard, *, steps: int = 100, minimize: bool = True) -> None:
    """Fast minimum-norm attack (2102.12827, algorithm 1), linf, l2, l1 and l0.

    The margin's gradient gives the direction, projected onto a ball whose radius follows the linearised distance to the
    boundary until the first success, then shrinks after a success and grows after a failure.

    Note:
        The first radius exceeds the linearised distance by gamma: on it a linear model would stay on the boundary.

    Args:
        steps: gradient updates.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.
    """
    best, norm = shard.best, shard.budget.norm
    samples = best.samples()
    state = _State(samples.x.clone(), samples.x.new_full((len(samples),), 1.0 if norm == "l0" else torch.inf))
    for step in range(steps + 1):
        if not len(samples):
            break
        logits, margin, gradient = evaluate(shard.target, state.x_adv, samples.criterion.margin, gradient=step < steps)
        adversarial, gamma = best.offer_nearest(samples, state.x_adv, logits, norm), annealed(GAMMA, step, steps)
        nearest = best.distance[samples.index]
        factor = to_unit(gradient)
        margin, gradient = margin * factor, gradient * per_sample(factor)
        if norm == "l0":
            state.radius = _next_count(state.radius, nearest, adversarial, gamma, most=best.x[0].numel())
        else:
            steepness = length(gradient.flatten(1), DUAL[norm]).clamp_min(TINY)
            to_boundary = distance(state.x_adv, samples.x, norm) + margin.abs() / steepness
            state.radius = _next_radius(state.radius, nearest, adversarial, gamma, to_boundary)
        direction = gradient / per_sample(gradient.flatten(1).norm(dim=1).clamp_min(TINY))
        delta = (state.x_adv - samples.x + annealed(STEP_SIZE, step, steps) * direction).flatten(1)
        delta = into_balls(delta, state.radius, norm).view_as(samples.x)
        state.x_adv = (samples.x + delta).clamp_(0, 1)
        keep_samples(best.unfinished(samples, shard.budget.eps, minimize=minimize), samples, state)


def _next_count(radius: Tensor, nearest: Tensor, adversarial: Tensor, gamma: float, most: int) -> Tensor:
    """l0: at least one value more or fewer; all arguments (R,)."""
    grown = torch.maximum(radius + 1, (radius * (1 + gamma)).floor())
    shrunk = torch.minimum(radius - 1, (radius * (1 - gamma)).floor()).minimum(nearest).clamp_min(1)
    return torch.where(adversarial, shrunk, grown.clamp_max(most))


def _next_radius(radius: Tensor, nearest: Tensor, adversarial: Tensor, gamma: float, to_boundary: Tensor) -> Tensor:
    """The other norms; all arguments (R,), `nearest` infinite before the first success."""
    grown = torch.where(torch.isinf(nearest), to_boundary, radius) * (1 + gamma)
    return torch.where(adversarial, torch.minimum(radius * (1 - gamma), nearest), grown)


def into_balls(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Each of `delta` (R, D) projected onto the ball of its own radius (R,) around 0; l0 keeps the largest values."""
    reach = radius[:, None]
    if norm == "linf":
        return torch.clamp(delta, -reach, reach)
    if norm == "l2":
        return delta * (reach / length(delta, norm)[:, None].clamp_min(TINY)).clamp_max(1)
    ranked = delta.abs().sort(dim=1, descending=True).values
    if norm == "l0":
        count = radius.clamp(1, delta.shape[1]).long()
        return delta * (delta.abs() >= ranked.gather(1, count[:, None] - 1))
    counts = torch.arange(1, delta.shape[1] + 1, device=delta.device)
    shifts = (ranked.cumsum(dim=1) - reach) / counts
    last = (ranked > shifts).sum(dim=1, keepdim=True).clamp_min(1) - 1
    shift = shifts.gather(1, last).clamp_min(0)
    return delta.sign() * (delta.abs() - shift).clamp_min(0)


ENTRY = AttackEntry(
    name="fmn",
    attack=fmn,
    norms=("linf", "l2", "l1", "l0"),
    knowledge="white-box",
    kind="minimal",
    source="Pintor et al., 2102.12827, algorithm 1",
    limits={"steps": STEPS},
    passes=lambda settings, classes, norm: Passes(settings["steps"] + 1, settings["steps"]),
    iterative=lambda settings: settings["steps"] > 1,
)
