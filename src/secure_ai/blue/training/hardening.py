"""The loop of robust training: checkpoint by robust accuracy on held-out training images, a guard, averaged weights.

Resuming equals not stopping: what a step draws depends on seed and step only, and the number of steps is fixed before
the first one.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.training.hardening_state import Checkpoint, Checks, HardeningState
from secure_ai.blue.training.methods import Batch, Method
from secure_ai.blue.training.replicas import Replicas, allowed_replicas
from secure_ai.blue.training.schedules import Schedule
from secure_ai.blue.training.state import restore, snapshot_of
from secure_ai.core.compute import MEMORY_FORMAT, device_of, exact_kernels
from secure_ai.core.errors import EmptyDataError, NonFiniteError, UsageError
from secure_ai.core.seeds import derive_seed, generator, kept_random_state, seed_networks
from secure_ai.data.dataset import Dataset
from secure_ai.models.tensors import images_to_float

FALL = 0.15  # in robust accuracy, or between one step and many: catastrophic overfitting (2001.03994, section 5.4)
SPEED_STEPS, LEAST_SPEED_STEPS = 50, 5
GOLDEN = 0.6180339887498949
MAX_SPEED_FRACTION = 0.1  # of the time budget
OptimizerName = Literal["adam", "sgd"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerPlan:
    """`adam` (1412.6980) or `sgd` with momentum; `momentum` and `epsilon` are of one of them each."""

    name: OptimizerName
    momentum: float = 0.9
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Over all parameters of `network`; the rate is set before every step."""
        parameters = list(network.parameters())
        if self.name == "adam":
            return torch.optim.Adam(parameters, eps=self.epsilon, weight_decay=self.weight_decay, fused=True)
        return torch.optim.SGD(parameters, lr=0.0, momentum=self.momentum, weight_decay=self.weight_decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class HardeningPlan:
    """What decides the result, besides network, data and method.

    Attributes:
        steps: gradient steps in all.
        rate: learning rate.
        check_every: steps between checks; the last step is always checked.
        average: decay of the exponential average of weights, whose network is then the one that counts; 0: none.
        average_from: fraction of the training at which averaging begins.
        clip: largest norm of a gradient; 0: any.
        replicas: as in `TrainingPlan`; 1 for a network with randomness (dropout).
        patience: checks without a better robust accuracy after which training stops; 0: it never stops early.
    """

    steps: int
    batch_size: int
    rate: Schedule
    optimizer: OptimizerPlan
    seed: int
    check_every: int
    average: float
    average_from: float
    clip: float
    dtype: torch.dtype
    replicas: int
    patience: int


class Checked(NamedTuple):
    """Fractions of held-out training images classified correctly: clean, under one step, under the whole attack."""

    clean: float
    one_step: float
    robust: float


Check = Callable[[nn.Module], Checked]
Guard = Callable[[nn.Module, int, int], Checked | None]
"""(network, step, steps in all) -> what single steps are judged by while eps grows; None: by the check itself."""
Progress = Callable[[int, int], None]


def collapsed(best: float, now: Checked) -> bool:
    """Whether single-step training has overfitted catastrophically.

    Args:
        best: highest robust accuracy so far.
        now: one step still fails to fool the network, but several do; or several do far more often than before.
    """
    return best - now.robust > FALL or now.one_step - now.robust > FALL


@dataclass(slots=True)
class _Run:
    """What changes from step to step; `averaged` is the network itself where nothing is averaged."""

    network: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    checks: Checks
    best: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    began: float = 0.0


def harden(
    network: nn.Module,
    dataset: Dataset,
    *,
    method: Method,
    plan: HardeningPlan,
    check: Check,
    fallback: Method | None = None,
    guard: Guard = lambda network, step, steps: None,
    checkpoint: Checkpoint | None = None,
    progress: Progress = lambda done, total: None,
) -> HardeningState:
    """Train `network` in place; at the end it has the weights of the best check.

    Args:
        dataset: images (N, C, H, W), without the held-out ones.
        check: measures a network on held-out training images; decides which weights are kept.
        fallback: for a `method` of single steps: what takes over, from the best weights, where it has `collapsed`.
        guard: what decides that where it is not `check`.
        progress: called with (steps done, steps in all).

    Raises:
        EmptyDataError: fewer images than a batch.
        UsageError: every parameter is frozen.
        NonFiniteError: the loss was not finite before any check; after one, the best weights so far are the result.
    """
    _refuse(network, dataset, plan)
    run, start = _begin(network, plan, checkpoint)
    replicas = Replicas(network, allowed_replicas(network, plan.replicas))
    images, labels = torch.from_numpy(np.array(dataset.images)), torch.from_numpy(np.array(dataset.labels))
    device, done = device_of(network), start
    with replicas.working(), kept_random_state(device), exact_kernels(device):
        for step in range(start, plan.steps):
            if _ended(run.checks, plan):
                break
            active = fallback if fallback is not None and run.checks.rolled_back else method
            batches = _batches(images, labels, plan, step, replicas)
            if not _step(run, replicas, active, batches, plan):
                _diverged(run, step)
                break
            done = step + 1
            progress(done, plan.steps)
            if done % plan.check_every == 0 or done == plan.steps:
                _look(run, plan, check, step, guard if active is method and fallback is not None else None)
                if checkpoint is not None and done < plan.steps:
                    checkpoint.save(_state(run, done, plan))
    run.network.load_state_dict(run.best)
    return _state(run, done, plan)


def _refuse(network: nn.Module, dataset: Dataset, plan: HardeningPlan) -> None:
    if len(dataset) < plan.batch_size:
        raise EmptyDataError(
            "fewer images than a batch, a tenth being held out", where=dataset.name,
            expected=f">= {plan.batch_size} beside those held out", got=len(dataset),
            hint=f"--batch-size {len(dataset)} or less",
        )  # fmt: skip
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError("every weight is frozen", where="the network", expected="parameters that require gradients")


def _begin(network: nn.Module, plan: HardeningPlan, checkpoint: Checkpoint | None) -> tuple[_Run, int]:
    network.to(memory_format=MEMORY_FORMAT)  # type: ignore[call-overload]  # torch's stub lacks this form
    averaged = copy.deepcopy(network).eval() if plan.average else network
    run = _Run(network, averaged, plan.optimizer.build(network), Checks(), began=time.perf_counter())
    kept = checkpoint.load() if checkpoint is not None else None
    if kept is None:
        return run, 0
    restore(network, run.optimizer, kept.tensors["network"], kept.tensors["optimizer"])
    if plan.average:
        averaged.load_state_dict(kept.tensors["average"])
    run.checks, run.best = kept.checks, kept.tensors["best"]
    return run, kept.step


def _ended(checks: Checks, plan: HardeningPlan) -> bool:
    return bool(plan.patience and checks.robust) and len(checks.robust) - 1 - checks.chosen >= plan.patience


def _batches(images: Tensor, labels: Tensor, plan: HardeningPlan, step: int, replicas: Replicas) -> list[Batch]:
    """The batch of this step in its parts; the last samples of an epoch's order, fewer than a batch, are left out."""
    parts, device = len(replicas.networks), device_of(replicas.networks[0])
    per_epoch = len(labels) // plan.batch_size
    epoch, number = divmod(step, per_epoch)
    order = torch.randperm(len(labels), generator=generator(plan.seed, "shuffle", epoch), device="cpu")
    chosen = order[number * plan.batch_size : (number + 1) * plan.batch_size]
    x = images_to_float(images[chosen]).to(device).contiguous(memory_format=MEMORY_FORMAT)
    y = labels[chosen].to(device)
    return [
        Batch(
            *piece,
            generator(plan.seed, "hardening", step, part),
            step=step,
            steps=plan.steps,
            epoch=step / per_epoch,
        )
        for part, piece in enumerate(zip(x.chunk(parts), y.chunk(parts), chosen.chunk(parts), strict=True))
    ]


def _step(run: _Run, replicas: Replicas, method: Method, batches: list[Batch], plan: HardeningPlan) -> bool:
    """One gradient step; false, and nothing done, where the loss is not finite."""
    step = batches[0].step
    for group in run.optimizer.param_groups:
        group["lr"] = plan.rate(step, plan.steps)
    seed_networks(derive_seed(plan.seed, "layers", step), device_of(run.network))  # dropout draws from the global one
    run.optimizer.zero_grad(set_to_none=True)
    loss = float(replicas.backward(method, batches, plan.dtype).loss)
    if not math.isfinite(loss):
        return False
    if plan.clip:
        nn.utils.clip_grad_norm_(run.network.parameters(), plan.clip)
    run.optimizer.step()
    run.losses.append(loss)
    if plan.average:
        _average(run.averaged, run.network, plan.average if step >= plan.average_from * plan.steps else 0.0)
    return True


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """A running mean: averaged = decay averaged + (1 - decay) network, buffers too; counts are copied."""
    for mine, theirs in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)


def _look(run: _Run, plan: HardeningPlan, check: Check, step: int, guard: Guard | None) -> None:
    """Measure, keep the best weights, and roll single-step training back where it collapsed."""
    checks, began = run.checks, time.perf_counter()
    with _evaluated(run.averaged):
        now = check(run.averaged)
        growing = guard(run.averaged, step, plan.steps) if guard is not None and run.best else None
    ended = time.perf_counter()
    # while eps grows, nothing before was measured at this eps: one step is compared with several alone
    seen, best = (now, checks.best) if growing is None else (growing, growing.robust)
    if guard is not None and run.best and collapsed(best, seen):
        checks.rolled_back.append(step + 1)
        run.network.load_state_dict(run.best)
        if plan.average:
            run.averaged.load_state_dict(run.best)
        run.optimizer.load_state_dict(plan.optimizer.build(run.network).state_dict())
    elif now.robust > checks.best:
        run.best, checks.chosen = _copy(run.averaged), len(checks.robust)
    for values, value in (
        (checks.loss, float(np.mean(run.losses))), (checks.clean, now.clean), (checks.one_step, now.one_step),
        (checks.robust, now.robust), (checks.seconds, began - run.began), (checks.check_seconds, ended - began),
    ):  # fmt: skip
        values.append(value)
    checks.step.append(step + 1)
    run.losses.clear()
    run.began = time.perf_counter()


@contextlib.contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; the mode of every module comes back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _diverged(run: _Run, step: int) -> None:
    if not run.best:
        raise NonFiniteError(
            "the training loss is not finite", where=f"step {step + 1}", hint="a lower learning rate, or a longer ramp"
        )
    run.checks.diverged.append(step + 1)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}


def _state(run: _Run, step: int, plan: HardeningPlan) -> HardeningState:
    tensors = {
        "network": _copy(run.network),
        "optimizer": snapshot_of(run.optimizer),
        "average": _copy(run.averaged) if plan.average else {},
        "best": run.best,
    }
    return HardeningState(tensors, step, plan.steps, run.checks)


def affordable_steps(
    network: nn.Module,
    dataset: Dataset,
    method: Method,
    plan: HardeningPlan,
    seconds: float,
    check_seconds: Callable[[nn.Module], float],
) -> int:
    """How many steps of `method` fit into `seconds` with their checks, at most `plan.steps`.

    Computed from the speed of up to 50 steps on a copy.

    Args:
        check_seconds: how long one check takes.

    Raises:
        UsageError: not even one pass over the data fits.
    """
    began = time.perf_counter()
    done, spent, _ = timed_steps(network, dataset, method, plan, MAX_SPEED_FRACTION * seconds)
    step, check = spent / done, check_seconds(network)
    used = time.perf_counter() - began
    steps, epoch = _steps_within(seconds - used, step, check, plan.check_every), len(dataset) // plan.batch_size
    if steps < min(epoch, plan.steps):
        least = epoch * step + math.ceil(epoch / plan.check_every) * check + used
        raise UsageError(
            "no time for one pass over the data", where="--time-budget", got=f"{seconds:g} s",
            expected=f"at least {math.ceil(least)} s", hint="fewer images, or a cheaper method",
        )  # fmt: skip
    return min(steps, plan.steps)


def _steps_within(seconds: float, step: float, check: float, every: int) -> int:
    """The most steps that fit, with a check after `every` steps and after the last."""
    blocks = max(0, int(seconds / (every * step + check)))
    rest = seconds - blocks * (every * step + check) - check
    return blocks * every + max(0, int(rest / step))


def timed_steps(
    network: nn.Module, dataset: Dataset, method: Method, plan: HardeningPlan, limit: float
) -> tuple[int, float, float]:
    """Up to 50 steps on a copy, spread over the schedule, within about `limit` seconds.

    Returns:
        How many, the seconds they took, and the seconds in all, with a first step that is not counted: it prepares.
    """
    _refuse(network, dataset, plan)
    run, _ = _begin(copy.deepcopy(network), plan, None)
    replicas = Replicas(run.network, allowed_replicas(run.network, plan.replicas))
    images, labels = torch.from_numpy(np.array(dataset.images)), torch.from_numpy(np.array(dataset.labels))
    began, done = time.perf_counter(), 0
    device = device_of(network)
    with replicas.working(), kept_random_state(device), exact_kernels(device):
        for number in range(-1, SPEED_STEPS):
            step = int(number * GOLDEN % 1 * plan.steps)  # evenly from the first: schedules change a step's cost
            _step(run, replicas, method, _batches(images, labels, plan, step, replicas), plan)
            if number < 0:
                warm = time.perf_counter()
            done = number + 1
            if done >= LEAST_SPEED_STEPS and time.perf_counter() - began > limit:
                break
    now = time.perf_counter()
    return done, now - warm, now - began
