"""HopSkipJump: an attack that sees nothing but predicted labels (1904.02144), l2 and linf."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.active_set import Goal, Record, UnderWay, active_rows, keep_rows, per_sample, where_rows
from secure_ai.red.evasion.math.projections import distance

STARTS = 3  # images of the shard that are walked from; the one that ends nearest is the start
IMAGE_TRIALS = 90  # most images of other classes asked about, the nearest first
NOISE_TRIALS = 10  # uniform images, for samples that found no start among those
MOST_TRIALS = 100  # with the images that are left, which only a mistake of the network makes a start
FIRST_RADIUS = 0.1  # of the sphere that the first gradient is estimated on (section IV-C)
START_HALVINGS = 10  # of the way from a start to the image: to 0.001
MOST_HALVINGS = 30  # of one step that does not lead to a success
TINY = 1e-12


@dataclass(slots=True, kw_only=True)
class _Search(UnderWay):
    """What a search keeps of each sample.

    Attributes:
        point: a success near the boundary; meaningful where `started`.
        used: queries so far.
    """

    point: Tensor
    started: Tensor
    used: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    target: Target
    norm: Norm
    eps: float
    query_budget: int
    initial_queries: int
    highest_queries: int
    minimize: bool


@torch.no_grad()
def hopskipjump(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    query_budget: int = 5000,
    initial_gradient_queries: int = 100,
    max_gradient_queries: int = 10_000,
    minimize: bool = True,
) -> Tensor:
    """HopSkipJump (1904.02144, algorithm 2): from a success, along an estimated gradient of the boundary, nearer.

    Uses predicted labels only. A sample that has found a start and never leaves costs exactly `query_budget` forward
    passes and no backward; one without a start at most 100. Starts are the shard's nearest images of other classes (of
    the target label), where the paper has uniform noise: that leads to a nearer boundary with the same queries
    (docs/results.md). Noise comes where there are none, then the shard's other images.

    Args:
        target: see `Attack`, as for all arguments down to `active`.
        query_budget: predictions asked per sample, of which the last may be cut off in the middle of an estimate.
        initial_gradient_queries: predictions for the first estimate; the t-th takes sqrt(t) times as many.
        max_gradient_queries: most for one estimate.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.

    Returns:
        x_adv (N, C, H, W): the smallest success found, be it outside eps; a random image where there was no start.
    """
    plan = _Plan(
        target=target,
        norm=budget.norm,
        eps=budget.eps,
        query_budget=query_budget,
        initial_queries=initial_gradient_queries,
        highest_queries=max_gradient_queries,
        minimize=minimize,
    )
    record, rows = Record.empty(x), active_rows(y, active)
    starts, directions = (torch.Generator().manual_seed(_seed(generator)) for _ in range(2))
    search = _begin(x, Goal(y, target_label).at(rows), rows)
    wanted = _of_wanted_class(search, y)
    _start_from_images(plan, search, x, wanted, record)
    _start_from_noise(plan, search, x.shape, record, starts)
    _start_from_images(plan, search, x, ~wanted, record)
    _retire(plan, search, record)
    _blend(plan, search, record)
    iteration = 0
    while len(search.row):
        iteration += 1
        _hop(plan, search, record, iteration, x.shape, directions)
    return record.x_adv


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


def _begin(x: Tensor, goal: Goal, rows: Tensor) -> _Search:
    return _Search(
        row=rows.clone(),
        x=x[rows],
        y=goal.y,
        target_label=goal.target_label,
        point=x[rows],
        started=torch.zeros_like(rows, dtype=torch.bool),
        used=torch.zeros_like(rows),
    )


def _ask(plan: _Plan, search: _Search, x_adv: Tensor, wanted: Tensor, record: Record) -> Tensor:
    """One query of the `wanted` rows (R,) bool that have one left: (R,) bool, whether it met the goal."""
    asked = (wanted & (search.used < plan.query_budget)).nonzero().squeeze(1)
    met = torch.zeros_like(wanted)
    if len(asked):
        goal = search.goal.at(asked)
        met[asked] = goal.met_by(plan.target.predict(x_adv[asked], rows=search.row[asked]))
        search.used[asked] += 1
        moved = distance(x_adv[asked], search.x[asked], plan.norm)
        never = torch.full_like(moved, -torch.inf)
        record.offer(search.row[asked], x_adv[asked], met=met[asked], distance=moved, strength=never)
    return met


def _retire(plan: _Plan, search: _Search, record: Record) -> None:
    """Let go who has no start, no query left, or need not look further."""
    keep_rows(search, search.started & (search.used < plan.query_budget) & _looking(plan, search, record))


def _looking(plan: _Plan, search: _Search, record: Record) -> Tensor:
    """(R,) bool: a nearer success is wanted."""
    return torch.full_like(search.started, plan.minimize) | (record.distance[search.row] > plan.eps)


def _of_wanted_class(search: _Search, y: Tensor) -> Tensor:
    """Which images of the shard have a label that would meet each sample's goal: (R, N) bool."""
    aim = search.target_label
    return y != search.y[:, None] if aim is None else y == aim[:, None]


def _start_from_images(plan: _Plan, search: _Search, x: Tensor, allowed: Tensor, record: Record) -> None:
    """For who has no start yet: walk back from the nearest successes among `allowed` (R, N) bool, keep the nearest end.

    Exact distances in a stable order: who else is under attack must not decide between two equally near images.
    """
    away = torch.cdist(search.x.flatten(1), x.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    order = away.masked_fill(~allowed, torch.inf).argsort(dim=1, stable=True)
    count, found = allowed.sum(dim=1), STARTS * search.started
    nearest = torch.full(search.row.shape, torch.inf)
    for trial in range(min(IMAGE_TRIALS, len(x))):
        waiting = (found < STARTS) & (trial < count) & ((found > 0) | (search.used < MOST_TRIALS))
        waiting &= _looking(plan, search, record)
        if not bool(waiting.any()):
            break
        candidate = x[order[:, trial]]
        met = _ask(plan, search, candidate, waiting, record)
        candidate = _bisect(plan, search, candidate, met, record, "l2", START_HALVINGS)
        reached = distance(candidate, search.x, plan.norm)
        nearer = met & (reached < nearest)
        search.point = where_rows(nearer, candidate, search.point)
        nearest = torch.where(nearer, reached, nearest)
        found = found + met
    search.started = found > 0


def _start_from_noise(
    plan: _Plan, search: _Search, shape: torch.Size, record: Record, generator: torch.Generator
) -> None:
    """Uniform images, for samples that have no start yet."""
    for trial in range(NOISE_TRIALS):
        noise = torch.rand(shape, generator=generator)[search.row]
        if trial == 0:
            record.x_adv[search.row] = where_rows(search.started, record.x_adv[search.row], noise)
        met = _ask(plan, search, noise, ~search.started, record)
        noise = _bisect(plan, search, noise, met, record, "l2", START_HALVINGS)
        search.point = where_rows(met, noise, search.point)
        search.started |= met
        if bool(search.started.all()):
            break


def _between(x: Tensor, point: Tensor, share: Tensor, norm: Norm) -> Tensor:
    """l2: that share (R,) of the way from `x` to `point`; linf: `point` clipped to that share of its distance."""
    delta = point - x
    if norm == "l2":
        return x + per_sample(share) * delta
    reach = per_sample(share * distance(point, x, "linf"))
    return x + delta.clamp(-reach, reach)


def _blend_steps(plan: _Plan) -> int:
    """Halvings to the tolerance of section IV-D: d^-1.5 (l2) or d^-2 (linf)."""
    power = 1.5 if plan.norm == "l2" else 2.0
    return math.ceil(power * math.log2(plan.target.dimensions))


def _bisect(
    plan: _Plan, search: _Search, point: Tensor, asked: Tensor, record: Record, norm: Norm, steps: int
) -> Tensor:
    """Bisect between the images and `point` (R, C, H, W) for the boundary (algorithm 1), where `asked` (R,) bool."""
    low, high = torch.zeros(len(search.row)), torch.ones(len(search.row))
    for _ in range(steps if bool(asked.any()) else 0):
        middle = (low + high) / 2
        met = _ask(plan, search, _between(search.x, point, middle, norm), asked, record)
        low, high = torch.where(met, low, middle), torch.where(met, middle, high)
    return _between(search.x, point, high, norm)


def _blend(plan: _Plan, search: _Search, record: Record) -> None:
    """Move every point back to the boundary."""
    everyone = torch.ones_like(search.started)
    search.point = _bisect(plan, search, search.point, everyone, record, plan.norm, _blend_steps(plan))
    _retire(plan, search, record)


def _hop(
    plan: _Plan, search: _Search, record: Record, iteration: int, shape: torch.Size, generator: torch.Generator
) -> None:
    """One iteration: estimate the gradient, step along it as far as it stays a success, return to the boundary."""
    away = distance(search.point, search.x, plan.norm)
    queries = min(int(plan.initial_queries * math.sqrt(iteration)), plan.highest_queries)
    direction = _estimate(plan, search, record, _radius(plan, away, iteration), queries, shape, generator)
    length, failed = away / math.sqrt(iteration), torch.ones_like(search.started)
    for _ in range(MOST_HALVINGS):
        candidate = (search.point + per_sample(length) * direction).clamp_(0, 1)
        met = _ask(plan, search, candidate, failed, record)
        search.point = where_rows(met, candidate, search.point)
        failed &= ~met & (search.used < plan.query_budget)
        length = length / 2
        if not bool(failed.any()):
            break
    _blend(plan, search, record)


def _radius(plan: _Plan, away: Tensor, iteration: int) -> Tensor:
    """Radius of the sphere for the estimate (section IV-C): sqrt(d) d^-1.5 (l2), d d^-2 (linf): 1/d of the distance."""
    if iteration == 1:
        return torch.full_like(away, FIRST_RADIUS)
    return away / plan.target.dimensions


def _estimate(
    plan: _Plan,
    search: _Search,
    record: Record,
    radius: Tensor,
    queries: int,
    shape: torch.Size,
    generator: torch.Generator,
) -> Tensor:
    """Equation 16: the mean of random directions weighted by whether a small step along them is a success.

    Directions are drawn for the whole shard, one at a time: only sums are kept.
    """
    signed, plain = torch.zeros_like(search.x), torch.zeros_like(search.x)
    verdicts = torch.zeros(len(search.row))
    everyone = torch.ones_like(search.started)
    for _ in range(queries):
        linf = plan.norm == "linf"
        noise = 2 * torch.rand(shape, generator=generator) - 1 if linf else torch.randn(shape, generator=generator)
        noise = noise[search.row]
        noise = noise / per_sample(noise.flatten(1).norm(dim=1).clamp_min(TINY))
        candidate = (search.point + per_sample(radius) * noise).clamp_(0, 1)
        noise = (candidate - search.point) / per_sample(radius.clamp_min(TINY))
        verdict = _ask(plan, search, candidate, everyone, record).to(noise.dtype) * 2 - 1
        signed, plain, verdicts = signed + per_sample(verdict) * noise, plain + noise, verdicts + verdict
    mean = per_sample(verdicts / queries)
    estimate = torch.where(mean.abs() == 1, signed, signed - mean * plain)
    if plan.norm == "linf":
        return estimate.sign()
    return estimate / per_sample(estimate.flatten(1).norm(dim=1).clamp_min(TINY))
