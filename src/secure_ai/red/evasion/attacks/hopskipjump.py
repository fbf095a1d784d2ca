"""HopSkipJump: an attack that sees nothing but predicted labels (1904.02144), l2 and linf."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.seeds import normal, uniform
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.contract import QUERIES, AttackEntry, Passes, Shard, on_shard
from secure_ai.red.evasion.math.active_set import ActiveSamples, Best, keep_samples, per_sample, where_samples
from secure_ai.red.evasion.math.projections import distance

STARTS = 3  # images of the shard that are bisected from; the one that ends nearest is the start
IMAGE_TRIALS = 90  # most images of other classes that are queried, the nearest first
NOISE_TRIALS = 10  # uniform images, for samples that found no start among those
MOST_TRIALS = 100  # with the images that are left, which only a mistake of the network makes a start
FIRST_RADIUS = 0.1  # of the sphere that the first gradient is estimated on (section IV-C)
START_HALVINGS = 10  # of the way from a start to the image: to 0.001
MOST_HALVINGS = 30  # of one step that does not lead to a success
TINY = 1e-12


@dataclass(slots=True)
class _State:
    """What a search keeps of each sample.

    Attributes:
        point: a success near the boundary; meaningful where `started`.
        used: queries so far.
    """

    point: Tensor
    started: Tensor
    used: Tensor

    @classmethod
    def start(cls, samples: ActiveSamples) -> _State:
        """Nothing queried yet."""
        return cls(
            samples.x.clone(), torch.zeros_like(samples.index, dtype=torch.bool), torch.zeros_like(samples.index)
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """Settings, samples and what was found: what every part of the attack needs."""

    target: Target
    budget: PerturbationBudget
    query_budget: int
    minimize: bool
    best: Best
    samples: ActiveSamples
    state: _State

    def query(self, x_adv: Tensor, wanted: Tensor) -> Tensor:
        """One query of the `wanted` samples (R,) bool that have one left: (R,) bool, whether it is adversarial."""
        samples, used = self.samples, self.state.used
        queried = (wanted & (used < self.query_budget)).nonzero().squeeze(1)
        adversarial = torch.zeros_like(wanted)
        if len(queried):
            index, found = samples.index[queried], x_adv[queried]
            labels = self.target.predict(found, rows=index)
            adversarial[queried] = samples.criterion.at(queried).is_adversarial_label(labels)
            used[queried] += 1
            moved = distance(found, samples.x[queried], self.budget.norm)
            never = torch.full_like(moved, -torch.inf)
            self.best.offer(index, found, adversarial=adversarial[queried], distance=moved, score=never)
        return adversarial

    def unfinished(self) -> Tensor:
        """(R,) bool: a nearer success is wanted."""
        return self.best.unfinished(self.samples, self.budget.eps, minimize=self.minimize)

    def drop_finished(self) -> None:
        """Drop samples that have no start or no query left, or need no nearer success."""
        left = self.state.started & (self.state.used < self.query_budget) & self.unfinished()
        keep_samples(left, self.samples, self.state)


@on_shard
def hopskipjump(
    shard: Shard,
    *,
    query_budget: int = 5000,
    initial_gradient_queries: int = 100,
    max_gradient_queries: int = 10_000,
    minimize: bool = True,
) -> None:
    """HopSkipJump (1904.02144, algorithm 2): from a success, along an estimated gradient of the boundary, nearer.

    Uses predicted labels only. A sample without a start costs at most 100 queries. Starts are the shard's nearest
    images of other classes (of the target label), where the paper has uniform noise: that leads to a nearer boundary
    with the same queries (docs/results.md). Where there are none come noise, then the shard's other images.

    Args:
        query_budget: predictions per sample; the last estimate may be cut off in the middle.
        initial_gradient_queries: predictions for the first estimate; the t-th takes sqrt(t) times as many.
        max_gradient_queries: most for one estimate.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.

    The result is the smallest success found, be it outside eps; a random image where there was no start.
    """
    target, budget, best = shard.target, shard.budget, shard.best
    starts, directions = (torch.Generator().manual_seed(_seed(shard.generator)) for _ in range(2))
    samples = best.samples()
    state = _State.start(samples)
    run = _Run(target, budget, query_budget, minimize, best, samples, state)
    wanted = _labels_wanted(samples, shard.y)
    _start_from_images(run, best.x, wanted)
    _start_from_noise(run, best.x.shape, starts)
    _start_from_images(run, best.x, ~wanted)
    run.drop_finished()
    _to_boundary(run)
    iteration = 0
    while len(samples):
        iteration += 1
        queries = min(int(initial_gradient_queries * math.sqrt(iteration)), max_gradient_queries)
        away = distance(state.point, samples.x, budget.norm)
        # radius of the sphere (section IV-C): sqrt(d) d^-1.5 (l2), d d^-2 (linf): 1/d of the distance
        radius = torch.full_like(away, FIRST_RADIUS) if iteration == 1 else away / target.dimensions
        direction = _boundary_gradient(run, radius, queries, best.x.shape, directions)
        _step(run, direction, away / math.sqrt(iteration))
        _to_boundary(run)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator, device="cpu"))


def _labels_wanted(samples: ActiveSamples, y: Tensor) -> Tensor:
    """Which images of the shard have a label that would be adversarial for each sample: (R, N) bool."""
    aimed = samples.target_label
    return y != samples.y[:, None] if aimed is None else y == aimed[:, None]


def _start_from_images(run: _Run, x: Tensor, allowed: Tensor) -> None:
    """Of samples without a start: bisect from the nearest successes among `allowed` (R, N) bool, keep the nearest end.

    Exact distances in a stable order: which other samples are attacked must not decide between two equally near images.
    """
    samples, state = run.samples, run.state
    away = torch.cdist(samples.x.flatten(1), x.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    order = away.masked_fill(~allowed, torch.inf).argsort(dim=1, stable=True)
    count, found = allowed.sum(dim=1), STARTS * state.started
    nearest = torch.full(samples.index.shape, torch.inf, device=x.device)
    for trial in range(min(IMAGE_TRIALS, len(x))):
        waiting = (found < STARTS) & (trial < count) & ((found > 0) | (state.used < MOST_TRIALS)) & run.unfinished()
        if not bool(waiting.any()):
            break
        candidate = x[order[:, trial]]
        adversarial = run.query(candidate, waiting)
        candidate = _bisect(run, candidate, adversarial, "l2", START_HALVINGS)
        reached = distance(candidate, samples.x, run.budget.norm)
        nearer = adversarial & (reached < nearest)
        state.point = where_samples(nearer, candidate, state.point)
        nearest = torch.where(nearer, reached, nearest)
        found = found + adversarial
    state.started = found > 0


def _start_from_noise(run: _Run, shape: torch.Size, generator: torch.Generator) -> None:
    """Uniform images, for samples that have no start yet."""
    samples, state, best = run.samples, run.state, run.best
    for trial in range(NOISE_TRIALS):
        noise = uniform(shape, generator, samples.x.device)[samples.index]
        if trial == 0:
            best.x_adv[samples.index] = where_samples(state.started, best.x_adv[samples.index], noise)
        adversarial = run.query(noise, ~state.started)
        noise = _bisect(run, noise, adversarial, "l2", START_HALVINGS)
        state.point = where_samples(adversarial, noise, state.point)
        state.started |= adversarial
        if bool(state.started.all()):
            break


def _between(x: Tensor, point: Tensor, fraction: Tensor, norm: Norm) -> Tensor:
    """l2: that fraction (R,) of the way from `x` to `point`; linf: `point` clipped to that fraction of its distance."""
    delta = point - x
    if norm == "l2":
        return x + per_sample(fraction) * delta
    reach = per_sample(fraction * distance(point, x, "linf"))
    return x + delta.clamp(-reach, reach)


def _bisect(run: _Run, point: Tensor, wanted: Tensor, norm: Norm, halvings: int) -> Tensor:
    """Bisect between the images and `point` (R, C, H, W) for the boundary (algorithm 1), where `wanted` (R,) bool."""
    low, high = point.new_zeros(len(wanted)), point.new_ones(len(wanted))
    for _ in range(halvings if bool(wanted.any()) else 0):
        middle = (low + high) / 2
        adversarial = run.query(_between(run.samples.x, point, middle, norm), wanted)
        low, high = torch.where(adversarial, low, middle), torch.where(adversarial, middle, high)
    return _between(run.samples.x, point, high, norm)


def _to_boundary(run: _Run) -> None:
    """Move every point back to the boundary, to the tolerance of section IV-D: d^-1.5 (l2) or d^-2 (linf)."""
    state, norm = run.state, run.budget.norm
    halvings = math.ceil((1.5 if norm == "l2" else 2.0) * math.log2(run.target.dimensions))
    state.point = _bisect(run, state.point, torch.ones_like(state.started), norm, halvings)
    run.drop_finished()


def _step(run: _Run, direction: Tensor, length: Tensor) -> None:
    """Along `direction`, halving the `length` (R,) until the point stays a success."""
    state, failed = run.state, torch.ones_like(run.state.started)
    for _ in range(MOST_HALVINGS):
        candidate = (state.point + per_sample(length) * direction).clamp_(0, 1)
        adversarial = run.query(candidate, failed)
        state.point = where_samples(adversarial, candidate, state.point)
        failed &= ~adversarial & (state.used < run.query_budget)
        length = length / 2
        if not bool(failed.any()):
            break


def _boundary_gradient(
    run: _Run, radius: Tensor, queries: int, shape: torch.Size, generator: torch.Generator
) -> Tensor:
    """Equation 16: the mean of random directions weighted by whether a small step along them is a success.

    Directions are drawn for the whole shard, one at a time: only sums are kept.
    """
    point, linf = run.state.point, run.budget.norm == "linf"
    signed, plain = torch.zeros_like(point), torch.zeros_like(point)
    outcomes = point.new_zeros(len(point))
    everyone = torch.ones_like(run.state.started)
    for _ in range(queries):
        noise = (uniform if linf else normal)(shape, generator, point.device)
        noise = 2 * noise - 1 if linf else noise
        noise = noise[run.samples.index]
        noise = noise / per_sample(noise.flatten(1).norm(dim=1).clamp_min(TINY))
        candidate = (point + per_sample(radius) * noise).clamp_(0, 1)
        noise = (candidate - point) / per_sample(radius.clamp_min(TINY))
        outcome = run.query(candidate, everyone).to(noise.dtype) * 2 - 1
        signed, plain, outcomes = signed + per_sample(outcome) * noise, plain + noise, outcomes + outcome
    mean = per_sample(outcomes / queries)
    estimate = torch.where(mean.abs() == 1, signed, signed - mean * plain)
    if linf:
        return estimate.sign()
    return estimate / per_sample(estimate.flatten(1).norm(dim=1).clamp_min(TINY))


ENTRY = AttackEntry(
    name="hopskipjump",
    attack=hopskipjump,
    norms=("linf", "l2"),
    knowledge="decision-based",
    kind="minimal",
    source="Chen, Jordan and Wainwright, 1904.02144, algorithm 2",
    limits={"query_budget": QUERIES, "initial_gradient_queries": QUERIES, "max_gradient_queries": QUERIES},
    passes=lambda settings, classes, norm: Passes(settings["query_budget"], 0),
    iterative=lambda settings: settings["query_budget"] > 1,
)
