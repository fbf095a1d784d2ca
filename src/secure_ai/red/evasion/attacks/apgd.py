"""APGD: projected ascent without a step size to choose (2003.01690; l1: 2103.01208), alone and targeted.

The members of AutoAttack are calls of these functions; `reference.py` lists their settings.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.apgd_control import Halving, Sparse, halving_checkpoints, sparse_checkpoints
from secure_ai.red.evasion.attacks.apgd_run import Ascent, Control, Score, Walk, climb
from secure_ai.red.evasion.math.active_set import Goal, Record, active_rows, per_sample
from secure_ai.red.evasion.math.losses import cross_entropy, dlr, dlr_targeted
from secure_ai.red.evasion.math.projections import project

RADIUS_SCHEDULE = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # radius over eps, share of the steps (2103.01208, section 3.4)
RHO = 0.75
TINY = 1e-12


def _ce(logits: Tensor, y: Tensor, aim: Tensor) -> Tensor:
    return cross_entropy(logits, y)


def _ce_targeted(logits: Tensor, y: Tensor, aim: Tensor) -> Tensor:
    return -cross_entropy(logits, aim)


def _dlr(logits: Tensor, y: Tensor, aim: Tensor) -> Tensor:
    return dlr(logits, y)


@torch.no_grad()
def apgd_ce(
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
    eot_samples: int = 1,
    radius_schedule: bool = False,
) -> Tensor:
    """APGD on the cross-entropy (2003.01690, algorithm 1; l1: 2103.01208, algorithm 1).

    A sample that is never broken costs `restarts * (steps + 1)` forward and `restarts * steps` backward passes, times
    `eot_samples`. A radius schedule (l1) has three ascents: `restarts * (steps + 3)` forward passes.

    Args:
        target: see `Attack`, as for all arguments down to `active`.
        steps: gradient updates per restart.
        restarts: independent runs; a broken sample starts none.
        eot_samples: passes averaged for each evaluation of a random model.
        radius_schedule: l1 only: ascend first within 3 and 2 times eps (the first 30 % of the steps each).

    Returns:
        x_adv (N, C, H, W): the first success, else the point with the highest loss of all restarts.
    """
    score = _ce if target_label is None else _ce_targeted
    plan = _ascent(target, budget, score, steps, eot_samples)
    aims = (y if target_label is None else target_label,) * restarts
    return _restarts(plan, Goal(y, target_label), x, aims, active_rows(y, active), generator, radius_schedule)


@torch.no_grad()
def apgd_dlr(
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
    eot_samples: int = 1,
    radius_schedule: bool = False,
) -> Tensor:
    """APGD on the difference-of-logits ratio (2003.01690, equation 6; towards `target_label`: equation 7).

    Arguments, result and passes as `apgd_ce`. With fewer than 4 classes the ratio is not defined: the logit margin
    takes its place.
    """
    score = _dlr if target_label is None else dlr_targeted
    plan = _ascent(target, budget, score, steps, eot_samples)
    aims = (y if target_label is None else target_label,) * restarts
    return _restarts(plan, Goal(y, target_label), x, aims, active_rows(y, active), generator, radius_schedule)


@torch.no_grad()
def apgd_targeted(
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
    eot_samples: int = 1,
    radius_schedule: bool = False,
) -> Tensor:
    """APGD-T: the targeted difference-of-logits ratio towards the likeliest wrong classes, one ascent each.

    A sample that is never broken costs, with T = min(targets, K - 1), `1 + T * restarts * (steps + 1)` forward and
    `T * restarts * steps` backward passes, times `eot_samples` but for the first (the clean logits that order the
    classes); with a radius schedule `1 + T * restarts * (steps + 3)` forward.

    Args:
        target: see `Attack`, as for all arguments down to `active`.
        steps, restarts, eot_samples, radius_schedule: as `apgd_ce`, for each class.
        targets: classes tried, at most K - 1.

    Returns:
        x_adv (N, C, H, W): the first success (any wrong class), else the strongest attempt. With `target_label` given,
        that class is the only one tried, and the goal.
    """
    rows = active_rows(y, active)
    plan = _ascent(target, budget, dlr_targeted, steps, eot_samples)
    if target_label is not None:
        aims = (target_label,) * restarts
    else:
        ranked = likeliest_wrong(target, x, y, rows, targets)
        aims = tuple(aim for aim in ranked for _ in range(restarts))
    return _restarts(plan, Goal(y, target_label), x, aims, rows, generator, radius_schedule)


def likeliest_wrong(target: Target, x: Tensor, y: Tensor, rows: Tensor, count: int) -> tuple[Tensor, ...]:
    """The wrong classes by falling clean logit, min(count, K - 1) tensors (N,); one forward pass of `rows`."""
    ranked = y[:, None].repeat(1, target.num_classes)
    logits = target.logits(x[rows]).scatter(1, y[rows, None], -torch.inf)
    ranked[rows] = logits.argsort(dim=1, descending=True, stable=True)
    return ranked[:, : min(count, target.num_classes - 1)].unbind(1)


def _ascent(target: Target, budget: PerturbationBudget, score: Score, steps: int, eot_samples: int) -> Ascent:
    checkpoints = (sparse_checkpoints if budget.norm == "l1" else halving_checkpoints)(steps)
    return Ascent(
        target=target,
        score=score,
        budget=budget,
        steps=steps,
        eot_samples=eot_samples,
        checkpoints=checkpoints,
        rho=RHO,
    )


def _restarts(
    plan: Ascent,
    goal: Goal,
    x: Tensor,
    aims: tuple[Tensor, ...],
    rows: Tensor,
    generator: torch.Generator,
    radius_schedule: bool,
) -> Tensor:
    """One ascent for every entry of `aims` (each (N,)), of the samples of `rows` still without success."""
    record = Record.empty(x)
    scheduled = radius_schedule and plan.budget.norm == "l1" and plan.steps >= len(RADIUS_SCHEDULE)
    phases = RADIUS_SCHEDULE if scheduled else ((1.0, 1.0),)
    radius = PerturbationBudget(plan.budget.norm, plan.budget.eps * phases[0][0])
    for aim in aims:
        start = apgd_start(x, radius, generator)  # for the whole shard, before anything is dropped
        rows = rows[torch.isinf(record.distance[rows])]
        if not len(rows):
            break
        if len(phases) == 1:
            _climb(plan, goal, x, aim, rows, start[rows], record, warm=False)
        else:
            _scheduled(plan, goal, x, aim, rows, start[rows], record)
    return record.x_adv


def _scheduled(plan: Ascent, goal: Goal, x: Tensor, aim: Tensor, rows: Tensor, start: Tensor, record: Record) -> None:
    """Three ascents with shrinking radius, each from the best point of the last; only the last may end early."""
    left = plan.steps
    for index, (factor, share) in enumerate(RADIUS_SCHEDULE):
        last = index == len(RADIUS_SCHEDULE) - 1
        later = len(RADIUS_SCHEDULE) - 1 - index  # ascents that need a step as well
        steps = left if last else min(left - later, math.ceil(share * plan.steps))
        left -= steps
        budget = PerturbationBudget("l1", plan.budget.eps * factor)
        phase = replace(plan, budget=budget, steps=steps, checkpoints=sparse_checkpoints(steps), leave=last)
        found = record if last else Record.empty(x)
        start = project(start, x[rows], budget)
        _climb(phase, goal, x, aim, rows, start, found, warm=True)
        start = found.x_adv[rows]


def _climb(
    plan: Ascent, goal: Goal, x: Tensor, aim: Tensor, rows: Tensor, start: Tensor, record: Record, *, warm: bool
) -> None:
    originals, here = x[rows], goal.at(rows)
    control: Control
    if plan.budget.norm == "l1":
        control = Sparse.start(originals, start, plan.budget, warm=warm)
    else:
        control = Halving.start(originals, plan.budget)
    zeros = torch.zeros(())  # stands for what `climb` fills in at its first evaluation
    walk = Walk(
        row=rows.clone(),
        x=originals,
        y=here.y,
        target_label=here.target_label,
        aim=aim[rows],
        x_adv=start,
        previous=zeros,
        gradient=zeros,
        loss=zeros,
        best=zeros,
        best_gradient=zeros,
        best_loss=zeros,
        rises=zeros,
    )
    climb(plan, walk, control, record)


def apgd_start(x: Tensor, budget: PerturbationBudget, generator: torch.Generator) -> Tensor:
    """A start on the border of the ball, inside [0, 1], for every sample of the shard (2003.01690's public code)."""
    if budget.norm == "linf":
        noise = 2 * torch.rand(x.shape, generator=generator) - 1
        size = noise.abs().flatten(1).amax(dim=1)
    else:
        noise = torch.randn(x.shape, generator=generator)
        size = noise.flatten(1).norm(dim=1)
    if budget.norm == "l1":
        return project(x + noise, x, budget)
    return (x + noise * per_sample(budget.eps / size.clamp_min(TINY))).clamp_(0, 1)
