"""Sigma-zero: the smallest number of changed values by gradient (2402.01879), l0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.active_set import Goal, Record, UnderWay, active_rows, keep_rows, per_sample
from secure_ai.red.evasion.math.adam import adam_direction
from secure_ai.red.evasion.math.hyperplane import length
from secure_ai.red.evasion.math.input_gradient import leaf, slope
from secure_ai.red.evasion.math.projections import distance
from secure_ai.red.evasion.math.schedules import annealed

STEP_FALL = 0.1  # the step size ends at this share of where it began
TINY = 1e-12


@dataclass(slots=True, kw_only=True)
class _Search(UnderWay):
    """What a search keeps of each sample.

    Attributes:
        mean, square: Adam's moments of the gradient.
        threshold: (R,) values of `delta` below it are set to 0.
    """

    delta: Tensor
    mean: Tensor
    square: Tensor
    threshold: Tensor


@torch.no_grad()
def sigma_zero(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 1000,
    step_size: float = 1.0,
    sigma: float = 0.001,
    threshold: float = 0.3,
    threshold_step: float = 0.01,
    minimize: bool = True,
) -> Tensor:
    """Descend on the margin plus a smooth count of the changed values, and drop the small ones (algorithm 1).

    The count is sum(delta^2 / (delta^2 + sigma)) over the number of values; its threshold rises after a success and
    falls after a failure. A sample that is never broken costs `steps + 1` forward and `steps` backward passes.

    Note:
        Steps are Adam's, as in the authors' public code; the paper's algorithm writes a plain gradient step.

    Args:
        target: see `Attack`, as for all arguments down to `active`; nothing is drawn from `generator`.
        steps: gradient updates.
        step_size: first step size of Adam (whose gradients have linf norm 1), annealed to a tenth.
        sigma: smoothness of the count.
        threshold: first size below which a change is dropped.
        threshold_step: its change, relative to the step size.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.

    Returns:
        x_adv (N, C, H, W): the smallest success found, be it outside eps, else the iterate with the highest margin.
    """
    record, rows = Record.empty(x), active_rows(y, active)
    goal, original = Goal(y, target_label).at(rows), x[rows]
    search = _Search(
        row=rows.clone(),
        x=original,
        y=goal.y,
        target_label=goal.target_label,
        delta=torch.zeros_like(original),
        mean=torch.zeros_like(original),
        square=torch.zeros_like(original),
        threshold=original.new_full((len(rows),), threshold),
    )
    for step in range(steps + 1):
        if not len(search.row):
            break
        met, gradient = _evaluate(target, search, record, last=step == steps)
        rate = annealed((step_size, step_size * STEP_FALL), step, steps)
        _update(search, met, gradient, step, rate, sigma, rate * threshold_step)
        if not minimize:
            keep_rows(search, record.distance[search.row] > budget.eps)
    return record.x_adv


def _evaluate(target: Target, search: _Search, record: Record, *, last: bool) -> tuple[Tensor, Tensor]:
    """Whether the goal is met, and the gradient of max(-margin, 0)."""
    goal, x_adv = search.goal, search.x + search.delta
    with torch.set_grad_enabled(not last):
        start = leaf(x_adv)
        logits = target.logits(start)
        strength = goal.strength(logits)
        hinge = (-strength).clamp_min(0)
    met = goal.surely_met(logits)
    moved = distance(x_adv, search.x, "l0")
    record.offer(search.row, x_adv, met=met, distance=moved, strength=strength.detach())
    return met, torch.zeros_like(x_adv) if last else slope(hinge, start)


def _update(
    search: _Search, met: Tensor, gradient: Tensor, step: int, rate: float, sigma: float, threshold_step: float
) -> None:
    squares = search.delta.square()
    total = gradient + 2 * sigma * search.delta / (squares + sigma).square() / search.x[0].numel()
    total = total / per_sample(length(total.flatten(1), "linf").clamp_min(TINY))
    moved = search.delta - rate * adam_direction(total, search.mean, search.square, step + 1)
    moved = (search.x + moved).clamp_(0, 1) - search.x
    search.threshold = (search.threshold + torch.where(met, threshold_step, -threshold_step)).clamp(0, 1)
    search.delta = moved * (moved.abs() >= per_sample(search.threshold))
