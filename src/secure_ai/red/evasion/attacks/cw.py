"""Carlini and Wagner's l2 attack (1608.04644, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.active_set import Goal, Record, UnderWay, active_rows, keep_rows
from secure_ai.red.evasion.math.adam import adam_direction
from secure_ai.red.evasion.math.input_gradient import leaf, slope
from secure_ai.red.evasion.math.projections import distance

INSIDE = 0.999999  # keeps the inverse of tanh finite at pixels 0 and 1
HIGHEST_CONST = 1e10  # where the search for the constant stops growing it
GROWTH = 10.0  # of the constant while no success is known


@dataclass(slots=True, kw_only=True)
class _Search(UnderWay):
    """What a search keeps of each sample.

    Attributes:
        free: tanh-space variable w, x_adv = (tanh(w) + 1) / 2.
        mean, square: Adam's moments of its gradient.
        const: weight of the margin, between `low` and `high`.
        succeeded: (R,) bool: a success with the present constant.
    """

    free: Tensor
    mean: Tensor
    square: Tensor
    const: Tensor
    low: Tensor
    high: Tensor
    succeeded: Tensor


@torch.no_grad()
def cw(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 1000,
    binary_search_steps: int = 9,
    learning_rate: float = 0.01,
    initial_const: float = 0.001,
    confidence: float = 0.0,
    minimize: bool = True,
) -> Tensor:
    """Minimise |delta|^2 + c * max(-margin, -confidence) in tanh space with Adam, searching for the smallest c.

    A sample that is never broken costs `binary_search_steps * (steps + 1)` forward and `binary_search_steps * steps`
    backward passes: there is no early abort.

    Args:
        target: see `Attack`, as for all arguments down to `active`; nothing is drawn from `generator`.
        steps: updates for each constant.
        binary_search_steps: constants tried: times 10 until a success, then halving the interval.
        learning_rate: of Adam.
        initial_const: the first constant.
        confidence: kappa, the margin asked for.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.

    Returns:
        x_adv (N, C, H, W): the smallest success found, be it outside eps, else the iterate with the highest margin.
    """
    record, rows = Record.empty(x), active_rows(y, active)
    search = _begin(x, Goal(y, target_label).at(rows), rows, initial_const)
    for _ in range(binary_search_steps):
        search.free = torch.atanh((2 * search.x - 1) * INSIDE)
        search.mean, search.square = torch.zeros_like(search.x), torch.zeros_like(search.x)
        search.succeeded = torch.zeros_like(search.row, dtype=torch.bool)
        for step in range(steps + 1):
            if not len(search.row):
                return record.x_adv
            gradient = _evaluate(target, search, record, confidence, last=step == steps)
            direction = adam_direction(gradient, search.mean, search.square, step + 1)
            search.free = search.free - learning_rate * direction
            if not minimize:
                keep_rows(search, record.distance[search.row] > budget.eps)
        _next_const(search)
    return record.x_adv


def _begin(x: Tensor, goal: Goal, rows: Tensor, const: float) -> _Search:
    ones = x.new_ones(len(rows))
    return _Search(
        row=rows.clone(),
        x=x[rows],
        y=goal.y,
        target_label=goal.target_label,
        free=x[rows],
        mean=x[rows],
        square=x[rows],
        const=ones * const,
        low=ones * 0,
        high=ones * HIGHEST_CONST,
        succeeded=torch.zeros_like(rows, dtype=torch.bool),
    )


def _evaluate(target: Target, search: _Search, record: Record, confidence: float, *, last: bool) -> Tensor:
    """Note what the iterate achieves; the gradient of the objective in tanh space."""
    goal = search.goal
    x_adv = (torch.tanh(search.free) + 1) / 2
    with torch.set_grad_enabled(not last):
        start = leaf(x_adv)
        logits = target.logits(start)
        strength = goal.strength(logits)
        penalty = search.const * (confidence - strength).clamp_min(0)
    met = goal.surely_met(logits) & (strength >= confidence)
    moved = distance(x_adv, search.x, "l2")
    record.offer(search.row, x_adv, met=met, distance=moved, strength=strength.detach())
    search.succeeded = search.succeeded | met
    pixels = 2 * (x_adv - search.x) + (torch.zeros_like(x_adv) if last else slope(penalty, start))
    return pixels * 2 * x_adv * (1 - x_adv)


def _next_const(search: _Search) -> None:
    search.high = torch.where(search.succeeded, torch.minimum(search.high, search.const), search.high)
    search.low = torch.where(search.succeeded, search.low, torch.maximum(search.low, search.const))
    bounded = search.high < HIGHEST_CONST
    search.const = torch.where(bounded, (search.low + search.high) / 2, search.const * GROWTH).clamp_max(HIGHEST_CONST)
