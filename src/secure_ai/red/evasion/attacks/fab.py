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
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.apgd import likeliest_wrong
from secure_ai.red.evasion.math.active_set import Goal, Record, UnderWay, active_rows, keep_rows, per_sample
from secure_ai.red.evasion.math.boundary import nearest_boundary
from secure_ai.red.evasion.math.hyperplane import length, towards_hyperplane
from secure_ai.red.evasion.math.projections import distance

OVERSHOOT = 1.05  # eta of 1907.02044, section 2.4, as are the next two
BACKWARD = 0.9  # beta
LEAN_MOST = 0.1  # alpha_max
START_SHARE = 0.5  # of eps: where a restart begins
TINY = 1e-12
SHORTEST = 1e-8  # stands for a step of length 0


@dataclass(slots=True, kw_only=True)
class _Search(UnderWay):
    """`aim` is None for the untargeted attack."""

    aim: Tensor | None
    x_adv: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    target: Target
    budget: PerturbationBudget
    steps: int
    minimize: bool


@torch.no_grad()
def fab(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 100,
    restarts: int = 1,
    minimize: bool = True,
) -> Tensor:
    """Untargeted FAB (1907.02044, algorithm 1): towards the boundary that is nearest by linearisation.

    A sample that is never broken costs `restarts * 2 * steps` forward and `restarts * steps * (K - 1)` backward passes:
    with many classes `fab_targeted` is cheaper. With `target_label` given only that boundary counts: one backward a
    step.

    Args:
        target: see `Attack`, as for all arguments down to `active`.
        steps: linearisations per run.
        restarts: runs; the first starts at the clean image, the others at random at a distance of half of eps.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.

    Returns:
        x_adv (N, C, H, W): the smallest success found, be it outside eps, else the iterate with the highest margin.
    """
    plan = _Plan(target=target, budget=budget, steps=steps, minimize=minimize)
    aims = (target_label,) * restarts
    return _runs(plan, Goal(y, target_label), x, aims, restarts, active_rows(y, active), generator)


@torch.no_grad()
def fab_targeted(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    minimize: bool = True,
) -> Tensor:
    """FAB-T: towards the boundary to each of the likeliest wrong classes in turn (2003.01690, section 5).

    A sample that is never broken costs, with T = min(targets, K - 1), `1 + T * restarts * 2 * steps` forward and
    `T * restarts * steps` backward passes.

    Args:
        target: see `Attack`, as for all arguments down to `active`.
        steps, restarts, minimize: as `fab`, for each class.
        targets: classes tried, at most K - 1.

    Returns:
        x_adv (N, C, H, W): as `fab`. With `target_label` given, that class is the only one tried, and the goal.
    """
    rows = active_rows(y, active)
    plan = _Plan(target=target, budget=budget, steps=steps, minimize=minimize)
    ranked = (target_label,) if target_label is not None else likeliest_wrong(target, x, y, rows, targets)
    aims = tuple(aim for aim in ranked for _ in range(restarts))
    return _runs(plan, Goal(y, target_label), x, aims, restarts, rows, generator)


def _runs(
    plan: _Plan,
    goal: Goal,
    x: Tensor,
    aims: tuple[Tensor | None, ...],
    restarts: int,
    rows: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """One search for every entry of `aims`; every `restarts`-th starts at the clean image, the rest at random."""
    record = Record.empty(x)
    for index, aim in enumerate(aims):
        start = x if index % restarts == 0 else _random_start(x, plan.budget, generator)
        if not plan.minimize:
            rows = rows[record.distance[rows] > plan.budget.eps]
        if not len(rows):
            break
        here = goal.at(rows)
        search = _Search(
            row=rows.clone(),
            x=x[rows],
            y=here.y,
            target_label=here.target_label,
            aim=None if aim is None else aim[rows],
            x_adv=start[rows],
        )
        _run(plan, search, record)
    return record.x_adv


def _run(plan: _Plan, search: _Search, record: Record) -> None:
    norm, eps = plan.budget.norm, plan.budget.eps
    for _ in range(plan.steps):
        if not len(search.row):
            return
        aims = _other_classes(plan.target, search.y) if search.aim is None else (search.aim,)
        leave = search.y if search.target_label is None else None
        gap, normal = nearest_boundary(plan.target, search.x_adv, leave, aims, norm)
        search.x_adv = _step(search.x_adv, search.x, gap, normal, norm)
        logits, goal = plan.target.logits(search.x_adv), search.goal
        met, moved = goal.surely_met(logits), distance(search.x_adv, search.x, norm)
        record.offer(search.row, search.x_adv, met=met, distance=moved, strength=goal.strength(logits))
        # by a hair counts here: a search that stayed there would be stuck on the boundary
        back = per_sample(torch.where(goal.met(logits), BACKWARD, 1.0))
        search.x_adv = search.x + (search.x_adv - search.x) * back
        if not plan.minimize:
            keep_rows(search, ~(met & (moved <= eps)))


def _step(x_adv: Tensor, x: Tensor, gap: Tensor, normal: Tensor, norm: Norm) -> Tensor:
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
        noise = 2 * torch.rand(x.shape, generator=generator) - 1
    else:
        noise = torch.randn(x.shape, generator=generator)
    size = length(noise.flatten(1), budget.norm).clamp_min(TINY)
    return (x + noise * per_sample(START_SHARE * budget.eps / size)).clamp_(0, 1)
