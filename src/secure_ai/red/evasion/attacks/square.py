"""Square: random search with square windows, from scores alone (1912.00049; l1 as in AutoAttack)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.square_shapes import pattern, place, share_at, signs, tiled, window_side
from secure_ai.red.evasion.math.active_set import Goal, Record, UnderWay, active_rows, keep_rows, per_sample
from secure_ai.red.evasion.math.losses import cross_entropy
from secure_ai.red.evasion.math.projections import project

TINY = 1e-12
L1_SLACK = 1e-6  # relative: aim this much inside the l1 ball, where the sum of many values rounds


@dataclass(slots=True, kw_only=True)
class _Search(UnderWay):
    """What a search keeps of each sample.

    Attributes:
        low, high: linf: the two values a pixel may take; None else.
        best: the best point so far, with its loss (lower is better).
    """

    low: Tensor | None
    high: Tensor | None
    best: Tensor
    loss: Tensor


@dataclass(frozen=True, slots=True)
class _Window:
    """One query's draws for the whole shard: where, what goes in, with which sign, and (l2, l1) what is emptied."""

    place: tuple[slice, slice]
    sign: Tensor
    pattern: Tensor
    emptied: tuple[slice, slice]


@torch.no_grad()
def square(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    query_budget: int = 5000,
    restarts: int = 1,
    p_init: float = 0.8,
    rescale_schedule: bool = False,
) -> Tensor:
    """Square attack (1912.00049, algorithms 1 to 3), on the margin loss; towards `target_label` on cross-entropy.

    A sample that is never broken costs `restarts * query_budget` forward passes; the first is that of the start. A
    window that changes nothing is not asked about, unless the network is random: its answer is known, and the result
    the same. All samples of the shard share the place of the window, each draws its own signs. No gradients.

    Args:
        target: see `Attack`, as for all arguments down to `active`.
        query_budget: windows tried per sample and restart, so the most model calls.
        p_init: share of the image that the first windows cover.
        rescale_schedule: spread the falling window sizes over `query_budget`; as it stands the schedule is that of
            10,000 queries, which AutoAttack cuts off at 5,000.

    Returns:
        x_adv (N, C, H, W): the first success, else the point with the best loss of all restarts.
    """
    record, rows = Record.empty(x), active_rows(y, active)
    goal = Goal(y, target_label)
    for _ in range(restarts):
        start = square_start(x, budget, generator)
        rows = rows[torch.isinf(record.distance[rows])]
        if not len(rows):
            break
        search = _begin(x[rows], goal.at(rows), rows, start[rows], budget)
        _ask(target, search, search.best, record, first=True)
        for query in range(query_budget - 1):
            if not len(search.row):
                break
            share = share_at(query, p_init, query_budget, rescale=rescale_schedule)
            _ask(target, search, _propose(search, _draw(x, share, budget, generator), budget), record)
        never = torch.zeros_like(search.row, dtype=torch.bool)
        record.offer(search.row, search.best, met=never, distance=search.loss, strength=-search.loss)
    return record.x_adv


def _begin(x: Tensor, goal: Goal, rows: Tensor, start: Tensor, budget: PerturbationBudget) -> _Search:
    box = budget.norm == "linf"
    return _Search(
        row=rows.clone(),
        x=x,
        y=goal.y,
        target_label=goal.target_label,
        low=(x - budget.eps).clamp_(min=0) if box else None,
        high=(x + budget.eps).clamp_(max=1) if box else None,
        best=start,
        loss=x.new_full((len(x),), torch.inf),
    )


def _ask(target: Target, search: _Search, x_adv: Tensor, record: Record, *, first: bool = False) -> None:
    """One query of every sample; keep what is better, let go what met its goal."""
    rows = torch.arange(len(x_adv)) if first or not target.deterministic else _changed(x_adv, search.best)
    goal = search.goal.at(rows)
    logits = target.logits(x_adv[rows], rows=search.row[rows])
    strength = goal.strength(logits)
    loss = -strength if goal.target_label is None else cross_entropy(logits, goal.target_label)
    met, improved = goal.surely_met(logits, strength), loss < search.loss[rows]
    kept = rows[improved]
    search.loss[kept] = loss[improved]
    search.best[kept] = x_adv[kept]
    if bool(met.any()):
        done = rows[met]
        record.take_success(search.row[done], x_adv[done])
        alive = torch.ones_like(search.row, dtype=torch.bool)
        alive[done] = False
        keep_rows(search, alive)


def _changed(x_adv: Tensor, best: Tensor) -> Tensor:
    """Rows (R,) whose window changes anything: of the others the network's answer is known.

    On digits a fifth of AutoAttack's 5,000 windows are put where they stand already.
    """
    return (x_adv != best).flatten(1).any(dim=1).nonzero().squeeze(1)


def square_start(x: Tensor, budget: PerturbationBudget, generator: torch.Generator) -> Tensor:
    """Linf: vertical stripes of plus or minus eps; l2 and l1: a grid of patterns (section 3.3 and 3.4)."""
    count, channels, _, width = x.shape
    if budget.norm == "linf":
        return (x + budget.eps * signs((count, channels, 1, width), generator)).clamp_(0, 1)
    delta = tiled(tuple(x.shape), budget.norm, generator)
    if budget.norm == "l1":
        return project(x + delta, x, budget)
    return _to_l2_sphere(delta, x, budget.eps)


def _draw(x: Tensor, share: float, budget: PerturbationBudget, generator: torch.Generator) -> _Window:
    count, channels, height, width = x.shape
    side = window_side(share, height, width, budget.norm)
    at = place(height, width, side, generator)
    sign = signs((count, channels, 1, 1), generator)
    if budget.norm == "linf":
        return _Window(at, sign, torch.ones(1, 1), at)
    return _Window(at, sign, pattern(side, budget.norm, generator), place(height, width, side, generator))


def _propose(search: _Search, window: _Window, budget: PerturbationBudget) -> Tensor:
    sign = window.sign[search.row]
    if search.low is not None and search.high is not None:
        at = (slice(None), slice(None), *window.place)
        x_adv = search.best.clone()
        x_adv[at] = torch.where(sign > 0, search.high[at], search.low[at])
        return x_adv
    delta = _moved_mass(search.best - search.x, window, sign, budget)
    if budget.norm == "l1":
        return project(search.x + delta, search.x, PerturbationBudget("l1", budget.eps * (1 - L1_SLACK)))
    return _to_l2_sphere(delta, search.x, budget.eps)


def _moved_mass(delta: Tensor, window: _Window, sign: Tensor, budget: PerturbationBudget) -> Tensor:
    """Algorithm 3: empty one window, and give its mass and what eps leaves over to another, with a new pattern."""
    order = 2 if budget.norm == "l2" else 1
    at = (slice(None), slice(None), *window.place)
    empty = (slice(None), slice(None), *window.emptied)
    inside = torch.zeros(delta.shape[2:], dtype=torch.bool)
    inside[window.place] = inside[window.emptied] = True
    mass = _mass(delta, order)
    spare = (budget.eps**order - mass.sum(dim=1, keepdim=True)).clamp_min(0) / delta.shape[1]
    available = spare + _mass(delta * inside, order)
    old = delta[at]
    shape = sign * window.pattern + old / (_norm(old, order) + TINY)
    shape *= (available[..., None, None] if order == 1 else available[..., None, None].sqrt()) / (
        _norm(shape, order) + TINY
    )
    delta[empty] = 0
    delta[at] = shape
    return delta


def _mass(delta: Tensor, order: int) -> Tensor:
    """Per sample and channel: the sum of squares (order 2) or of sizes (order 1), (R, C)."""
    return (delta.square() if order == 2 else delta.abs()).sum(dim=(2, 3))


def _norm(delta: Tensor, order: int) -> Tensor:
    mass = _mass(delta, order)[..., None, None]
    return mass.sqrt() if order == 2 else mass


def _to_l2_sphere(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    norm = delta.flatten(1).norm(dim=1)
    return (x + delta * per_sample(eps / norm.clamp_min(TINY))).clamp_(0, 1)
