"""Hardening a network: request, plan, the check on held-out training images, and the training itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.certify.layers import layers_of
from secure_ai.blue.training.certified_training import interval_initialise
from secure_ai.blue.training.hardening import (
    Check,
    Checked,
    Guard,
    HardeningPlan,
    OptimizerName,
    OptimizerPlan,
    affordable_steps,
    harden,
)
from secure_ai.blue.training.hardening_state import Checkpoint, HardeningState
from secure_ai.blue.training.schedules import Schedule, cosine, triangular
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.compute import MEMORY_FORMAT, device_of
from secure_ai.core.errors import UsageError
from secure_ai.core.seeds import generator, normal
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import hold_out_last, stratified_sample
from secure_ai.models.target.target import as_target
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.red.evasion.attacks.pgd import fgsm
from secure_ai.runs.stages.adversaries import pgd_examples, still
from secure_ai.runs.stages.hardening_methods import BOUNDS, METHODS, RAMP, SIGMA, HardeningMethod, Wanted

HELD_OUT, MOST_HELD_OUT = 0.1, 6000
CHECKED, CHECK_STEPS = 1000, 20
CHECK_APART = 100  # steps between checks, at least, of a training that is to end in time
GUARD_EVERY, GUARD_CHECKED, GUARD_STEPS = 100, 256, 10
AVERAGE, AVERAGED_STEPS = 0.998, 20.0
CLIP = 10.0
PART = 250  # images in one pass of a check
MOST_EPOCHS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardening:
    """What decides a hardening, besides network and data.

    Attributes:
        epochs: passes over the training images; None: the method's own number, or with a time budget as many as fit.
        rate: highest learning rate; None: the method's own.
        time_budget: seconds of training and checks; the number of steps is fixed from the speed of the first ones.
        patience: checks without a better robust accuracy after which it stops; 0: never early.
    """

    method: str
    budget: PerturbationBudget
    seed: int
    batch_size: int = 128
    epochs: int | None = None
    rate: float | None = None
    optimizer: OptimizerName = "adam"
    adversary: str = ""
    awp: float = 0.0
    time_budget: float | None = None
    patience: int = 0
    replicas: int = 1
    dtype: torch.dtype = torch.float32

    @property
    def row(self) -> HardeningMethod:
        """Its row of the table. Raises UsageError where there is none, or where it cannot do what is asked."""
        if self.method not in METHODS:
            raise UsageError("unknown method", where="--method", expected=" or ".join(METHODS), got=self.method)
        row = METHODS[self.method]
        if self.budget.norm not in row.norms:
            raise UsageError(
                f"{self.method} cannot be asked for this norm", where="--norm", expected=" or ".join(row.norms),
                got=self.budget.norm,
            )  # fmt: skip
        for name, value in (("adversary", self.adversary), ("awp", self.awp)):
            if value and name not in row.options:
                able = " or ".join(key for key, other in METHODS.items() if name in other.options)
                raise UsageError(
                    f"{self.method} takes no {name}", where=f"--{name}", expected=f"--method {able}", got=value
                )
        return row

    def wanted(self, dataset: Dataset) -> Wanted:
        """What the method is asked for."""
        return Wanted(
            norm=self.budget.norm, eps=self.budget.eps, classes=dataset.classes,
            dimensions=math.prod(dataset.input_shape), adversary=self.adversary, awp=self.awp,
        )  # fmt: skip


def held_out(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """(to train on, to choose by): the last tenth, or a random one where the last lacks a class (sorted files).

    Raises:
        UsageError: images of one class only.
    """
    classes = np.unique(dataset.labels)
    if len(classes) < 2:
        raise UsageError("images of one class only", where=dataset.name, expected=">= 2 classes", got=len(classes))
    n = max(1, min(round(HELD_OUT * len(dataset)), MOST_HELD_OUT))
    rest, last = hold_out_last(dataset, n)
    if len(np.unique(last.labels)) == len(classes):
        return rest, last
    chosen = np.zeros(len(dataset), dtype=bool)
    chosen[stratified_sample(dataset.labels, n, seed)] = True
    note = f"a stratified random {n}"
    return dataset.select(np.flatnonzero(~chosen), f"all but {note}"), dataset.select(np.flatnonzero(chosen), note)


def checks(held: Dataset, asked: Hardening) -> Check:
    """What is measured on held-out images: clean, under one step, and under what the method is chosen by."""
    n, steps = _check_size(asked, held)
    images = images_to_float(held.images[:n]).contiguous(memory_format=MEMORY_FORMAT)
    return _check(images, labels_to_tensor(held.labels[:n]), asked, steps)


def guard(held: Dataset, asked: Hardening, growing: Schedule) -> Guard:
    """What `checks` measures, at the eps in force while it still grows.

    Trained at a small eps, any network withstands one step of the final one far more often than several.
    """

    def measured(network: nn.Module, step: int, steps: int) -> Checked | None:
        here = growing(step, steps)
        if here >= asked.budget.eps:
            return None
        return checks(held, replace(asked, budget=PerturbationBudget(asked.budget.norm, here)))(network)

    return measured


def check_seconds(network: nn.Module, held: Dataset, asked: Hardening) -> float:
    """About the most that one of `checks` takes, a guard counted in, from one on a part of the images.

    An untrained network would be faster: the attack spares what is misclassified. So its own predictions are the
    labels, and eps is too small to change one.
    """
    n, steps = _check_size(asked, held)
    device = device_of(network)
    images = images_to_float(held.images[: min(n, PART)]).contiguous(memory_format=MEMORY_FORMAT)
    with still(network), torch.no_grad():
        labels = network(images.to(device)).argmax(dim=1).cpu()
    small = replace(asked, budget=PerturbationBudget(asked.budget.norm, 1e-6 * asked.budget.eps))
    check, began = _check(images, labels, small, steps), time.perf_counter()
    check(network)
    guarded = RAMP if asked.row.fallback is not None else 0.0  # while eps grows, a guard measures once more
    return (time.perf_counter() - began) * n / len(images) * (1 + guarded)


def _check_size(asked: Hardening, held: Dataset) -> tuple[int, int]:
    """(images, gradient steps) of a check."""
    n, steps = (GUARD_CHECKED, GUARD_STEPS) if asked.row.fallback is not None else (CHECKED, CHECK_STEPS)
    return min(n, len(held)), steps


def _check(images: Tensor, labels: Tensor, asked: Hardening, steps: int) -> Check:
    budget = asked.budget

    def check(network: nn.Module) -> Checked:
        device = device_of(network)
        x, y = images.to(device), labels.to(device)
        with still(network), torch.no_grad():
            clean = _right(network, x, y)
            if asked.row.chosen_by == "noise":
                sigma = SIGMA * budget.eps
                noise = normal(x.shape, generator(asked.seed, "check-noise"), device)
                noisy = _right(network, x + sigma * noise, y)
                return Checked(_fraction(clean), 0.0, _fraction(noisy))
            if asked.row.chosen_by in BOUNDS:
                box = (x - budget.eps).clamp(0, 1), (x + budget.eps).clamp(0, 1)
                return Checked(_fraction(clean), 0.0, _fraction(BOUNDS[asked.row.chosen_by](network, *box, y)))
            return Checked(*_attacked(network, x, y, clean, budget, steps, asked.seed))

    return check


def _attacked(
    network: nn.Module, x: Tensor, y: Tensor, clean: Tensor, budget: PerturbationBudget, steps: int, seed: int
) -> tuple[float, float, float]:
    """Fractions correct: clean; under FGSM; under PGD with the cross-entropy and then the margin."""
    draws = generator(seed, "check")
    one = fgsm(as_target(network, x, num_classes=None), x, y, budget=budget, generator=draws)
    robust = clean.clone()
    for loss in ("cross-entropy", "margin"):
        kept = robust.nonzero().squeeze(1)
        for part in kept.split(PART):
            made = pgd_examples(network, x[part], y[part], budget=budget, steps=steps, generator=draws, loss=loss)
            robust[part] = _right(network, made, y[part])
    stepped = clean & _right(network, one, y)
    return _fraction(clean), _fraction(stepped), _fraction(robust)


def _fraction(right: Tensor) -> float:
    return int(right.sum()) / len(right)


def _right(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([network(part).argmax(dim=1) for part in x.split(PART)]) == y


def harden_network(
    network: nn.Module,
    dataset: Dataset,
    asked: Hardening,
    *,
    checkpoint: Checkpoint | None = None,
    steps_known: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[HardeningState, HardeningPlan, dict[str, object]]:
    """Train `network` (pixels in [0, 1] in, logits out) in place on `dataset`, where it is, a tenth held out.

    Args:
        steps_known: of a training to be resumed.

    Returns:
        The final state, the plan, and how the data were divided.

    Raises:
        SecureAIError: what cannot be done, before any training.
    """
    row, wanted = asked.row, asked.wanted(dataset)
    training, held = held_out(dataset, asked.seed)
    if row.chosen_by in BOUNDS:
        layers_of(network)  # refuses a layer that it does not know
    if row.from_scratch:
        interval_initialise(network, generator(asked.seed, "interval-initialise"))
    method, fallback = row.make(wanted), row.fallback(wanted) if row.fallback else None
    plan = planned(asked, row, len(training))
    if steps_known is not None:
        plan = _with_steps(plan, steps_known)
    elif asked.time_budget is not None:
        steps = affordable_steps(
            network, training, fallback or method, plan, asked.time_budget,
            partial(check_seconds, held=held, asked=asked),
        )  # fmt: skip
        plan = _with_steps(plan, steps)
    state = harden(
        network, training, method=method, fallback=fallback, plan=plan, check=checks(held, asked),
        guard=guard(held, asked, wanted.growing), checkpoint=checkpoint, progress=progress,
    )  # fmt: skip
    checked, _ = _check_size(asked, held)
    divided: dict[str, object] = {
        "n_train": len(training), "n_held_out": len(held), "n_checked": checked, "held_out": held.note
    }  # fmt: skip
    return state, plan, divided


def cut_by_time(asked: Hardening, plan: HardeningPlan, n: int) -> bool:
    """Whether the time allowed fewer epochs than were asked for, or than the method has by itself."""
    return plan.steps < planned(replace(asked, time_budget=None), asked.row, n).steps


def planned(asked: Hardening, row: HardeningMethod, n: int) -> HardeningPlan:
    """How `n` images are trained on."""
    per_epoch = max(1, n // asked.batch_size)
    epochs = asked.epochs or (MOST_EPOCHS if asked.time_budget is not None else row.epochs)
    peak = row.rate if asked.rate is None else asked.rate
    plan = HardeningPlan(
        steps=epochs * per_epoch,
        batch_size=asked.batch_size,
        rate=triangular(peak, RAMP) if asked.optimizer == "adam" else cosine(peak),
        optimizer=OptimizerPlan(name=asked.optimizer, weight_decay=0.0 if asked.optimizer == "adam" else 5e-4),
        seed=asked.seed,
        check_every=_check_every(asked, per_epoch),
        average=0.0,
        average_from=RAMP,
        clip=CLIP,
        dtype=torch.float32 if row.chosen_by in BOUNDS else asked.dtype,
        replicas=asked.replicas,
        patience=asked.patience,
    )
    return _with_steps(plan, plan.steps)


def _check_every(asked: Hardening, per_epoch: int) -> int:
    """Every epoch; where time counts, not so often that checks take most of it."""
    if asked.row.fallback:
        return GUARD_EVERY
    return per_epoch if asked.time_budget is None else max(per_epoch, CHECK_APART)


def _with_steps(plan: HardeningPlan, steps: int) -> HardeningPlan:
    """So many steps; the average reaches back over as many as a short training can give."""
    return replace(plan, steps=steps, average=max(0.0, min(AVERAGE, 1 - AVERAGED_STEPS / steps)))
