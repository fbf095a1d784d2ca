"""PGD on the logit margin from starts that differ in what the network says of them (ODI, 2003.06878).

Restarts from random points of the ball often end in the same place. Here each starts from Square's stripes or tiles and
first goes where a random mix of the logits rises, so that the restarts begin apart in the network's answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.square import square_start
from secure_ai.red.evasion.math.active_set import Goal, Record, UnderWay, active_rows, keep_rows
from secure_ai.red.evasion.math.input_gradient import leaf, slope
from secure_ai.red.evasion.math.projections import project, steepest
from secure_ai.red.evasion.math.schedules import annealed


@dataclass(slots=True, kw_only=True)
class _Walk(UnderWay):
    """`mix` (R, K) weighs the logits that the first steps raise."""

    x_adv: Tensor
    mix: Tensor


@torch.no_grad()
def odi_pgd(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    odi_steps: int = 2,
    steps: int = 20,
    restarts: int = 24,
) -> Tensor:
    """PGD from output-diversified starts (ODI, 2003.06878); a sample leaves as soon as it is broken.

    A sample that is never broken costs `restarts * (odi_steps + steps + 1)` forward and `restarts * (odi_steps +
    steps)` backward passes.

    Args:
        target: see `Attack`, as for all arguments down to `active`; the norm is linf or l2.
        odi_steps: steps of size eps that raise the random mix of logits; its weights are uniform in [-1, 1].
        steps: steps that raise the margin after those.
        restarts: independent runs; a broken sample starts none.

    Returns:
        x_adv (N, C, H, W): the iterate that met the goal first, else the one of highest margin in all restarts.

    Note:
        Differs from the paper in the random point that a restart begins with (Square's first guess, 1912.00049,
        sections 3.3 and 3.4, in place of a uniform one) and in the step size, which falls from eps to 0 as half a
        cosine.
    """
    sizes = [1.0] * odi_steps + [annealed((1.0, 0.0), step, steps) for step in range(steps)]
    record, rows = Record.empty(x), active_rows(y, active)
    for _ in range(restarts):
        start = square_start(x, budget, generator)  # for the whole shard, before anything is dropped
        mix = 2 * torch.rand((len(y), target.num_classes), generator=generator) - 1
        rows = rows[torch.isinf(record.distance[rows])]
        if not len(rows):
            break
        here = Goal(y, target_label).at(rows)
        walk = _Walk(
            row=rows.clone(),
            x=x[rows],
            y=here.y,
            target_label=here.target_label,
            x_adv=start[rows],
            mix=mix[rows],
        )
        _climb(target, walk, record, budget, sizes, odi_steps)
    return record.x_adv


def _climb(
    target: Target, walk: _Walk, record: Record, budget: PerturbationBudget, sizes: list[float], odi_steps: int
) -> None:
    """A step of each of `sizes` (in units of eps), the first `odi_steps` of them along the mix; all iterates count."""
    for step in range(len(sizes) + 1):
        last = step == len(sizes)
        with torch.set_grad_enabled(not last):
            point = walk.x_adv if last else leaf(walk.x_adv)
            logits = target.logits(point)
            margin = walk.goal.strength(logits)
            rising = (logits * walk.mix).sum(dim=1) if step < odi_steps else margin
        margin = margin.detach()
        met = walk.goal.surely_met(logits.detach(), margin)
        record.offer(walk.row, walk.x_adv, met=met, distance=torch.zeros_like(margin), strength=margin)
        if last:
            return
        step_taken = sizes[step] * budget.eps * steepest(slope(rising, point), budget.norm)
        walk.x_adv = project(walk.x_adv + step_taken, walk.x, budget)
        keep_rows(walk, ~met)
        if not len(walk.row):
            return
