"""Attacks that look for the smallest success by gradient: DDN (l2), FMN (every norm) and DeepFool (l2, linf)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.apgd import likeliest_wrong
from secure_ai.red.evasion.math.active_set import Goal, Record, UnderWay, active_rows, keep_rows, per_sample
from secure_ai.red.evasion.math.boundary import nearest_boundary
from secure_ai.red.evasion.math.hyperplane import DUAL, length
from secure_ai.red.evasion.math.input_gradient import leaf, slope
from secure_ai.red.evasion.math.losses import cross_entropy
from secure_ai.red.evasion.math.projections import distance
from secure_ai.red.evasion.math.schedules import annealed

DDN_RADIUS, DDN_STEP = 1.0, (1.0, 0.01)  # first radius; step size from and to (1811.09600, section 4)
DEEPFOOL_SLACK = 1e-4  # each step's least length: where clipping eats a share of every step, none would ever cross
SATURATED = 1e-6  # a cross-entropy below it has no gradient left in float32
FMN_STEP, FMN_GAMMA = (1.0, 0.01), (0.05, 0.001)  # from and to (2102.12827, section 3.1)
TINY = 1e-12


@dataclass(slots=True, kw_only=True)
class _Search(UnderWay):
    """`x_adv` lies within the present `radius` (R,)."""

    x_adv: Tensor
    radius: Tensor

    @classmethod
    def start(cls, x: Tensor, goal: Goal, rows: Tensor, radius: float) -> _Search:
        """At the clean images."""
        here, original = goal.at(rows), x[rows]
        return cls(
            row=rows.clone(),
            x=original,
            y=here.y,
            target_label=here.target_label,
            x_adv=original.clone(),
            radius=original.new_full((len(rows),), radius),
        )


@torch.no_grad()
def ddn(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 100,
    gamma: float = 0.05,
    minimize: bool = True,
) -> Tensor:
    """Decoupled direction and norm (1811.09600, algorithm 1), l2.

    The direction follows the cross-entropy's gradient; the radius shrinks by `gamma` after a success and grows by it
    after a failure. A sample that is never broken costs `steps + 1` forward and `steps` backward passes.

    Note:
        Where the softmax is saturated the logit margin's gradient takes the place of the vanished one.

    Args:
        target: see `Attack`, as for all arguments down to `active`; nothing is drawn from `generator`.
        steps: gradient updates.
        gamma: relative change of the radius.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.

    Returns:
        x_adv (N, C, H, W): the smallest success found, be it outside eps, else the iterate with the highest margin.
    """
    record = Record.empty(x)
    search = _Search.start(x, Goal(y, target_label), active_rows(y, active), DDN_RADIUS)
    for step in range(steps + 1):
        if not len(search.row):
            break
        with torch.set_grad_enabled(step < steps):
            x_adv = leaf(search.x_adv)
            logits = target.logits(x_adv)
            loss = _ascended(logits, search)
        gradient = slope(loss, x_adv) if step < steps else torch.zeros_like(search.x)
        met = _offer(search, logits.detach(), "l2", record)
        direction = gradient / per_sample(gradient.flatten(1).norm(dim=1).clamp_min(TINY))
        delta = search.x_adv - search.x + annealed(DDN_STEP, step, steps) * direction
        search.radius = search.radius * torch.where(met, 1 - gamma, 1 + gamma)
        scale = search.radius / delta.flatten(1).norm(dim=1).clamp_min(TINY)
        search.x_adv = (search.x + delta * per_sample(scale)).clamp_(0, 1)
        _let_go(search, record, budget, minimize)
    return record.x_adv


def _ascended(logits: Tensor, search: _Search) -> Tensor:
    if search.target_label is not None:
        return -cross_entropy(logits, search.target_label)
    loss = cross_entropy(logits, search.y)
    return torch.where(loss > SATURATED, loss, search.goal.strength(logits))


def _offer(search: _Search, logits: Tensor, norm: Norm, record: Record) -> Tensor:
    met = search.goal.surely_met(logits)
    moved = distance(search.x_adv, search.x, norm)
    record.offer(search.row, search.x_adv, met=met, distance=moved, strength=search.goal.strength(logits))
    return met


def _let_go(search: _Search, record: Record, budget: PerturbationBudget, minimize: bool) -> None:
    if not minimize:
        keep_rows(search, record.distance[search.row] > budget.eps)


@torch.no_grad()
def fmn(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 100,
    minimize: bool = True,
) -> Tensor:
    """Fast minimum-norm attack (2102.12827, algorithm 1), linf, l2, l1 and l0.

    The margin's gradient gives the direction, projected onto a ball whose radius follows the linearised distance to the
    boundary until the first success, then shrinks after a success and grows after a failure. A sample that is never
    broken costs `steps + 1` forward and `steps` backward passes.

    Note:
        The first radius exceeds the linearised distance by gamma: on it a linear model would stay on the boundary.

    Args:
        target, minimize: as `ddn`, like all arguments between.
        steps: gradient updates.

    Returns:
        x_adv (N, C, H, W): as `ddn`.
    """
    record = Record.empty(x)
    first = 1.0 if budget.norm == "l0" else torch.inf
    search = _Search.start(x, Goal(y, target_label), active_rows(y, active), first)
    for step in range(steps + 1):
        if not len(search.row):
            break
        with torch.set_grad_enabled(step < steps):
            x_adv = leaf(search.x_adv)
            logits = target.logits(x_adv)
            strength = search.goal.strength(logits)
        gradient = slope(strength, x_adv) if step < steps else torch.zeros_like(search.x)
        met = _offer(search, logits.detach(), budget.norm, record)
        gamma = annealed(FMN_GAMMA, step, steps)
        search.radius = _next_radius(search, record, met, strength.detach(), gradient, gamma, budget.norm)
        direction = gradient / per_sample(gradient.flatten(1).norm(dim=1).clamp_min(TINY))
        delta = (search.x_adv - search.x + annealed(FMN_STEP, step, steps) * direction).flatten(1)
        delta = into_balls(delta, search.radius, budget.norm).view_as(search.x)
        search.x_adv = (search.x + delta).clamp_(0, 1)
        _let_go(search, record, budget, minimize)
    return record.x_adv


def _next_radius(
    search: _Search, record: Record, met: Tensor, strength: Tensor, gradient: Tensor, gamma: float, norm: Norm
) -> Tensor:
    best, radius = record.distance[search.row], search.radius
    if norm == "l0":
        grown = torch.maximum(radius + 1, (radius * (1 + gamma)).floor())
        shrunk = torch.minimum(radius - 1, (radius * (1 - gamma)).floor()).minimum(best).clamp_min(1)
        return torch.where(met, shrunk, grown.clamp_max(search.x[0].numel()))
    moved = distance(search.x_adv, search.x, norm)
    away = moved + strength.abs() / length(gradient.flatten(1), DUAL[norm]).clamp_min(TINY)
    grown = torch.where(torch.isinf(best), away, radius) * (1 + gamma)
    return torch.where(met, torch.minimum(radius * (1 - gamma), best), grown)


def into_balls(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Each row of `delta` (R, D) projected onto the ball of its own radius (R,) around 0; l0 keeps the largest."""
    reach = radius[:, None]
    if norm == "linf":
        return torch.clamp(delta, -reach, reach)
    if norm == "l2":
        return delta * (reach / length(delta, norm)[:, None].clamp_min(TINY)).clamp_max(1)
    ranked = delta.abs().sort(dim=1, descending=True).values
    if norm == "l0":
        count = radius.clamp(1, delta.shape[1]).long()
        return delta * (delta.abs() >= ranked.gather(1, count[:, None] - 1))
    counts = torch.arange(1, delta.shape[1] + 1)
    shifts = (ranked.cumsum(dim=1) - reach) / counts
    last = (ranked > shifts).sum(dim=1, keepdim=True).clamp_min(1) - 1
    shift = shifts.gather(1, last).clamp_min(0)
    return delta.sign() * (delta.abs() - shift).clamp_min(0)


@dataclass(slots=True)
class _Way:
    """DeepFool's sum of steps, neither clipped to [0, 1] nor overshot: (R, C, H, W)."""

    total: Tensor


@torch.no_grad()
def deepfool(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 50,
    overshoot: float = 0.02,
    targets: int = 9,
) -> Tensor:
    """DeepFool (1511.04599, algorithm 2; linf: section 3.3): step onto the nearest linearised boundary until across.

    A sample that is never broken costs, with T = min(targets, K - 1), `1 + 2 * steps` forward and `T * steps` backward
    passes (with `target_label` `2 * steps` and `steps`). A broken sample leaves: this attack does not make a success
    smaller.

    Args:
        target: see `Attack`, as for all arguments down to `active`; nothing is drawn from `generator`.
        steps: linearisations.
        overshoot: how much further than the boundary to go, relative to the whole way.
        targets: likeliest wrong classes whose boundaries are looked at; with `target_label` only that one.

    Returns:
        x_adv (N, C, H, W): the first success, be it outside eps, else the iterate with the highest margin.
    """
    record, rows = Record.empty(x), active_rows(y, active)
    aims = (target_label,) if target_label is not None else likeliest_wrong(target, x, y, rows, targets)
    search = _Search.start(x, Goal(y, target_label), rows, 0.0)
    way = _Way(torch.zeros_like(search.x))
    for _ in range(steps):
        if not len(search.row):
            break
        here = [aim[search.row] for aim in aims]
        leave = search.y if target_label is None else None
        gap, normal = nearest_boundary(target, search.x_adv, leave, here, budget.norm)
        way.total = way.total + _onto(gap, normal, budget.norm).view_as(search.x)
        search.x_adv = (search.x + (1 + overshoot) * way.total).clamp_(0, 1)
        met = _offer(search, target.logits(search.x_adv), budget.norm, record)
        keep_rows(search, ~met)
        keep_rows(way, ~met)
    return record.x_adv


def _onto(gap: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    size = (gap / length(normal, DUAL[norm]).clamp_min(TINY) + DEEPFOOL_SLACK)[:, None]
    return size * (normal.sign() if norm == "linf" else normal / normal.norm(dim=1, keepdim=True).clamp_min(TINY))
