"""A suite on one shard: a pure function of model, images, attacks and seed, which any engine may run anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.seeds import derive_seed, generator, seed_networks
from secure_ai.models.target.passes import PassCounter
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.contract import SHARD_SIZE, AttackPlan
from secure_ai.red.evasion.math.active_set import Criterion
from secure_ai.red.evasion.suite.access import COUNTED
from secure_ai.red.evasion.suite.verify import Verified, checked_logits, verify


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent; seconds on one shard, samples passed forward, samples whose gradient was taken."""

    seconds: float = 0.0
    forward: int = 0
    backward: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(self.seconds + other.seconds, self.forward + other.forward, self.backward + other.backward)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteTask:
    """What all shards of a suite share.

    Attributes:
        attacks: in the order to be run.
        target_label: the class every sample shall be taken for; None: any wrong class.
        independent: every attack works on every eligible sample, not on the survivors only.
    """

    budget: PerturbationBudget
    attacks: tuple[AttackPlan, ...]
    seed: int
    target_label: int | None = None
    independent: bool = False

    def eligible(self, correct: Tensor, y: Tensor) -> Tensor:
        """Samples to be attacked, (N,) bool: correct before and, with a target label, of another class."""
        return correct if self.target_label is None else correct & (y != self.target_label)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """At most SHARD_SIZE samples: x (N, C, H, W) float32 in [0, 1], y (N,) int64; `first` is the number of x[0]."""

    suite: SuiteTask
    x: Tensor
    y: Tensor
    first: int

    @property
    def target_label(self) -> Tensor | None:
        """(N,) int64."""
        return None if self.suite.target_label is None else torch.full_like(self.y, self.suite.target_label)


def cut_shard(
    suite: SuiteTask, images: np.ndarray | Tensor, labels: Tensor, number: int, *, device: torch.device
) -> ShardTask:
    """The shard of this number, on `device`: of images (N, C, H, W), uint8 or float32 in [0, 1], labels (N,) int64."""
    part = slice(number * SHARD_SIZE, (number + 1) * SHARD_SIZE)
    x, y = images_to_float(images[part]).to(device), labels[part].to(device)
    return ShardTask(suite=suite, x=x, y=y, first=part.start)


@dataclass(slots=True, kw_only=True)
class ShardResult:
    """What came out. N samples, A attacks.

    Attributes:
        clean: (N,) predictions on the clean images.
        attempted: (A, N) bool, who was attacked.
        wrong: (A, N) bool, verified inside the budget and misclassified.
        met: (A, N) bool, and the goal met; the same as `wrong` without a target label.
        unmoved: (A, N) bool, the clean image came back.
        predictions: (N,) under the first attack that met the goal, else that misclassified, else the clean one.
        x_adv: (N, C, H, W), the example that met the goal, else the attempt of largest margin; `x` if not attacked.
        strength: (N,) float32, how far past its goal the example in `x_adv` is, in logits; -inf where none counts.
        costs: one an attack.
        queries: (A, N) int64, the model calls that each black-box attack spent on a sample, without our verification.
    """

    clean: Tensor
    attempted: Tensor
    wrong: Tensor
    met: Tensor
    unmoved: Tensor
    predictions: Tensor
    x_adv: Tensor
    strength: Tensor
    costs: list[Cost]
    clean_cost: Cost
    queries: Tensor

    def on_cpu(self) -> ShardResult:
        """The same, wherever it was computed."""
        return replace(
            self,
            **{name: getattr(self, name).cpu() for name in ("clean", "predictions", "x_adv", "strength")},
            **{name: getattr(self, name).cpu() for name in ("attempted", "wrong", "met", "unmoved")},
        )


class StopAskedError(Exception):
    """The caller asked to stop; no error of anyone, so never shown."""


class Meter:
    """Measures what a stretch of work spends."""

    def __init__(self, passes: PassCounter) -> None:
        self._passes = passes
        self._start = (time.perf_counter(), passes.forward, passes.backward)

    def read(self) -> Cost:
        """The cost since construction."""
        seconds, forward, backward = self._start
        return Cost(time.perf_counter() - seconds, self._passes.forward - forward, self._passes.backward - backward)


def _seed_network(task: ShardTask, purpose: str) -> None:
    """A network that draws in its forward pass draws the same in every run."""
    seed_networks(derive_seed(task.suite.seed, purpose, task.first, "network"), task.x.device)


def run_shard(
    target: NetworkTarget,
    task: ShardTask,
    *,
    searched: NetworkTarget | None = None,
    done: Callable[[int], None] = lambda attacks_done: None,
    stop: Callable[[], bool] = lambda: False,
) -> ShardResult:
    """Clean pass, then attack by attack, on the samples that are classified correctly and not broken yet.

    Args:
        target: inside `attacked()`; what it predicts counts.
        searched: what the attacks are given, a copy with the same counter of passes; None: `target`.
        done: called after each attack with their number so far.
        stop: asked before each attack.

    Raises:
        StopAskedError: `stop` said yes.
        AttackOutputError: an attack broke its contract.
        TargetError: the network answered NaN or infinity.
    """
    count, attacks, device = len(task.x), len(task.suite.attacks), task.x.device
    with torch.random.fork_rng(devices=[]):
        meter = Meter(target.passes)
        _seed_network(task, "clean")
        logits = checked_logits(target, task.x)
        clean = logits.argmax(dim=1)
        result = ShardResult(
            clean=clean,
            attempted=torch.zeros((attacks, count), dtype=torch.bool, device=device),
            wrong=torch.zeros((attacks, count), dtype=torch.bool, device=device),
            met=torch.zeros((attacks, count), dtype=torch.bool, device=device),
            unmoved=torch.zeros((attacks, count), dtype=torch.bool, device=device),
            predictions=clean.clone(),
            x_adv=task.x.clone(),
            strength=torch.full((count,), -torch.inf, device=device),
            costs=[],
            clean_cost=meter.read(),
            queries=torch.zeros((attacks, count), dtype=torch.int64, device="cpu"),
        )
        eligible = task.suite.eligible(clean == task.y, task.y)
        distance = -Criterion(task.y, task.target_label).margin(logits)
        for number, plan in enumerate(task.suite.attacks):
            if stop():
                raise StopAskedError
            left = eligible if task.suite.independent else eligible & _worth(plan, result, distance)
            spent = _run_attack(target, searched or target, task, number, left, result) if bool(left.any()) else Cost()
            result.costs.append(spent)
            done(number + 1)
    return result.on_cpu()


def _worth(plan: AttackPlan, result: ShardResult, distance: Tensor) -> Tensor:
    """(N,) bool: not broken yet and, with `margin_left`, near enough; `distance` (N,) is the clean margin, above 0."""
    unbroken = ~result.met.any(dim=0)
    if plan.margin_left is None:
        return unbroken
    untried = torch.isinf(result.strength)  # no attempt yet that counts: outside eps tells nothing of the inside
    return unbroken & (untried | (-result.strength <= plan.margin_left * distance))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attack's output on M `rows` after verification: `logits` (M, K) in float32."""

    rows: Tensor
    x_adv: Tensor
    logits: Tensor
    verified: Verified


def _run_attack(
    target: NetworkTarget, searched: NetworkTarget, task: ShardTask, number: int, active: Tensor, result: ShardResult
) -> Cost:
    plan = task.suite.attacks[number]
    meter = Meter(target.passes)
    _seed_network(task, plan.text)
    x_adv = _search(searched, task, plan, active, result.queries[number])
    _take(task, number, _verified(target, task, plan, x_adv, active), result)
    return meter.read()


def _search(target: NetworkTarget, task: ShardTask, plan: AttackPlan, active: Tensor, queries: Tensor) -> Tensor:
    """Call the attack, on copies: what it does to its arguments is its own affair. Adds to `queries` (N,)."""
    with target.passes.counting(len(task.x)) as asked:
        x_adv = plan.entry.attack(
            target,
            task.x.clone(),
            task.y.clone(),
            budget=task.suite.budget,
            generator=generator(task.suite.seed, plan.text, task.first),
            target_label=task.target_label,
            active=active.clone(),
            **plan.settings,
        )
    if plan.entry.knowledge in COUNTED:
        queries += asked
    return x_adv


def _verified(target: NetworkTarget, task: ShardTask, plan: AttackPlan, x_adv: Tensor, active: Tensor) -> _Attempt:
    rows = active.nonzero().squeeze(1)
    kind = plan.entry.kind
    checks = verify(x_adv, task.x, attack=plan.text, budget=task.suite.budget, kind=kind, rows=rows, first=task.first)
    found, device = x_adv.detach()[rows], rows.device
    on_device = Verified(checks.within.to(device), checks.moved.to(device))
    return _Attempt(rows, found, checked_logits(target, found), on_device)


def _take(task: ShardTask, number: int, attempt: _Attempt, result: ShardResult) -> None:
    """Count what the attempt achieved, and keep it where it is the worst case so far."""
    rows, within = attempt.rows, attempt.verified.within
    criterion, predicted = Criterion(task.y, task.target_label).at(rows), attempt.logits.argmax(dim=1)
    wrong, met = within & (predicted != task.y[rows]), within & criterion.is_adversarial_label(predicted)
    strength = criterion.margin(attempt.logits)
    broken_before, wrong_before = result.met[:, rows].any(dim=0), result.wrong[:, rows].any(dim=0)
    result.attempted[number, rows] = True
    result.wrong[number, rows] = wrong
    result.met[number, rows] = met
    result.unmoved[number, rows] = ~attempt.verified.moved
    worse = ~broken_before & (met | (wrong & ~wrong_before))
    result.predictions[rows[worse]] = predicted[worse]
    kept = ~broken_before & within & (met | (strength > result.strength[rows]))
    result.x_adv[rows[kept]] = attempt.x_adv[kept]
    result.strength[rows[kept]] = strength[kept]
