"""APGD: projected gradient steps without a step size to choose (2003.01690; l1: 2103.01208), alone and targeted."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.seeds import normal, uniform
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.apgd_run import Iterates, Run, StepRule, run_apgd
from secure_ai.red.evasion.attacks.apgd_steps import Halving, Sparse, halving_checkpoints, sparse_checkpoints
from secure_ai.red.evasion.contract import (
    EOT_SAMPLES,
    RESTARTS,
    STEPS,
    TARGETS,
    AttackEntry,
    CountsAs,
    Passes,
    Settings,
    Shard,
    on_shard,
)
from secure_ai.red.evasion.math.active_set import ActiveSamples, Best, per_sample
from secure_ai.red.evasion.math.losses import cross_entropy, dlr, dlr_targeted
from secure_ai.red.evasion.math.projections import project

RADIUS_SCHEDULE = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""Radius over eps, and the fraction of the steps that are taken in it (2103.01208, section 3.4)."""
TINY = 1e-12


def _ce(logits: Tensor, y: Tensor, towards: Tensor) -> Tensor:
    return cross_entropy(logits, y)


def _ce_targeted(logits: Tensor, y: Tensor, towards: Tensor) -> Tensor:
    return -cross_entropy(logits, towards)


def _dlr(logits: Tensor, y: Tensor, towards: Tensor) -> Tensor:
    return dlr(logits, y)


@on_shard
def apgd_ce(
    shard: Shard, *, steps: int = 100, restarts: int = 1, eot_samples: int = 1, radius_schedule: bool = False
) -> None:
    """APGD on the cross-entropy (2003.01690, algorithm 1; l1: 2103.01208, algorithm 1).

    Args:
        steps: gradient updates per restart.
        restarts: independent runs; a broken sample starts none.
        eot_samples: passes averaged for each evaluation of a random model.
        radius_schedule: l1 only: search first within 3 and 2 times eps (the first 30 % of the steps each).

    The result is the first success, else the point with the highest loss of all restarts.
    """
    aimed = shard.target_label
    run = Run(shard.target, _ce if aimed is None else _ce_targeted, shard.budget, steps, eot_samples)
    _restarts(run, shard, (shard.y if aimed is None else aimed,) * restarts, radius_schedule)


@on_shard
def apgd_dlr(
    shard: Shard, *, steps: int = 100, restarts: int = 1, eot_samples: int = 1, radius_schedule: bool = False
) -> None:
    """APGD on the difference-of-logits ratio (2003.01690, equation 6; towards `target_label`: equation 7).

    Arguments and result as `apgd_ce`. With fewer than 4 classes the ratio is not defined: the logit margin takes its
    place.
    """
    aimed = shard.target_label
    run = Run(shard.target, _dlr if aimed is None else dlr_targeted, shard.budget, steps, eot_samples)
    _restarts(run, shard, (shard.y if aimed is None else aimed,) * restarts, radius_schedule)


@on_shard
def apgd_targeted(
    shard: Shard,
    *,
    steps: int = 100,
    restarts: int = 1,
    eot_samples: int = 1,
    radius_schedule: bool = False,
    targets: int = 9,
) -> None:
    """APGD-T: the targeted difference-of-logits ratio towards the likeliest wrong classes, one run each.

    Args:
        steps, restarts, eot_samples, radius_schedule: as `apgd_ce`, for each class.
        targets: classes tried, at most K - 1.

    The result is the first success (any wrong class), else the strongest attempt. With `target_label` given, that class
    is the only one tried, and the goal.
    """
    run = Run(shard.target, dlr_targeted, shard.budget, steps, eot_samples)
    towards = tuple(classes for classes in classes_to_try(shard, targets) for _ in range(restarts))
    _restarts(run, shard, towards, radius_schedule)


def classes_to_try(shard: Shard, count: int) -> tuple[Tensor, ...]:
    """The target class where there is one, else the likeliest wrong ones; each (N,)."""
    aimed = shard.target_label
    return (aimed,) if aimed is not None else likeliest_wrong(shard.target, shard.best, count)


def likeliest_wrong(target: Target, best: Best, count: int) -> tuple[Tensor, ...]:
    """The wrong classes by falling clean logit, min(count, K - 1) tensors (N,); one forward pass of active samples."""
    y, active = best.criterion.y, best.active
    ranked = y[:, None].repeat(1, target.num_classes)
    logits = target.logits(best.x[active]).scatter(1, y[active, None], -torch.inf)
    ranked[active] = logits.argsort(dim=1, descending=True, stable=True)
    return ranked[:, : min(count, target.num_classes - 1)].unbind(1)


def _restarts(run: Run, shard: Shard, towards: tuple[Tensor, ...], radius_schedule: bool) -> None:
    """One run for every entry of `towards` (each (N,)), of the samples still without success."""
    best, scheduled = shard.best, has_schedule(radius_schedule, run.steps, run.budget.norm)
    radius = run.budget.eps * (RADIUS_SCHEDULE[0][0] if scheduled else 1.0)
    for classes in towards:
        # for the whole shard, before any sample is dropped
        start = apgd_start(best.x, PerturbationBudget(run.budget.norm, radius), shard.generator)
        samples = best.unbroken()
        if not len(samples):
            break
        here = classes[samples.index]
        if scheduled:
            _scheduled(run, samples, here, start[samples.index], best)
        else:
            _once(run, samples, here, start[samples.index], best, warm=False)


def has_schedule(radius_schedule: bool, steps: int, norm: Norm) -> bool:
    """Whether a run is made of the schedule's parts: in l1, with a step for each."""
    return radius_schedule and norm == "l1" and steps >= len(RADIUS_SCHEDULE)


def _scheduled(run: Run, samples: ActiveSamples, towards: Tensor, start: Tensor, best: Best) -> None:
    """Three runs with shrinking radius, each from the best point of the last; only the last may end early."""
    left = run.steps
    for number, (factor, fraction) in enumerate(RADIUS_SCHEDULE):
        later = len(RADIUS_SCHEDULE) - 1 - number  # runs that need a step as well
        steps = min(left - later, math.ceil(fraction * run.steps)) if later else left
        left -= steps
        budget = PerturbationBudget("l1", run.budget.eps * factor)
        part = replace(run, budget=budget, steps=steps, stop_early=not later)
        found = best.empty() if later else best
        _once(part, samples, towards, project(start, samples.x, budget), found, warm=True)
        start = found.x_adv[samples.index]


def _once(run: Run, samples: ActiveSamples, towards: Tensor, start: Tensor, best: Best, *, warm: bool) -> None:
    rule: StepRule
    if run.budget.norm == "l1":
        rule, checkpoints = Sparse.start(samples.x, start, run.budget, warm=warm), sparse_checkpoints(run.steps)
    else:
        rule, checkpoints = Halving.start(samples.x, run.budget), halving_checkpoints(run.steps)
    run_apgd(run, samples, Iterates.start(start, towards), rule, checkpoints, best)


def apgd_start(x: Tensor, budget: PerturbationBudget, generator: torch.Generator) -> Tensor:
    """A start on the border of the ball, inside [0, 1], for every sample of the shard (2003.01690's public code)."""
    if budget.norm == "linf":
        noise = 2 * uniform(x.shape, generator, x.device) - 1
        size = noise.abs().flatten(1).amax(dim=1)
    else:
        noise = normal(x.shape, generator, x.device)
        size = noise.flatten(1).norm(dim=1)
    if budget.norm == "l1":
        return project(x + noise, x, budget)
    return (x + noise * per_sample(budget.eps / size.clamp_min(TINY))).clamp_(0, 1)


def _passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    scheduled = has_schedule(settings["radius_schedule"], settings["steps"], norm)
    runs = settings["restarts"] * settings["eot_samples"]
    return Passes(runs * (settings["steps"] + (len(RADIUS_SCHEDULE) if scheduled else 1)), runs * settings["steps"])


def _targeted_passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    tried, one = min(settings["targets"], classes - 1), _passes(settings, classes, norm)
    return Passes(1 + tried * one.forward, tried * one.backward)  # 1: the clean logits that order the classes


_SOURCE = "Croce and Hein, 2003.01690, algorithm 1; l1: 2103.01208, algorithm 1"
_LIMITS = {"steps": STEPS, "restarts": RESTARTS, "eot_samples": EOT_SAMPLES}
_NEAR_L1 = {"radius_schedule": True}  # APGD is weak in l1 without the schedule (2103.01208, section 3.3)

APGD_CE = AttackEntry(
    name="apgd-ce",
    attack=apgd_ce,
    norms=("linf", "l2", "l1"),
    knowledge="white-box",
    kind="budget",
    source=_SOURCE,
    limits=_LIMITS,
    passes=_passes,
    iterative=lambda settings: settings["steps"] > 1,
    counts_as=CountsAs(role="gradient", everywhere={"steps": 10}, near={"steps": 100}, near_l1=_NEAR_L1),
)

APGD_DLR = AttackEntry(
    name="apgd-dlr",
    attack=apgd_dlr,
    norms=("linf", "l2", "l1"),
    knowledge="white-box",
    kind="budget",
    source=f"{_SOURCE}; loss: equation 6",
    limits=_LIMITS,
    passes=_passes,
    iterative=lambda settings: settings["steps"] > 1,
)

APGD_T = AttackEntry(
    name="apgd-t",
    attack=apgd_targeted,
    norms=("linf", "l2", "l1"),
    knowledge="white-box",
    kind="budget",
    source=f"{_SOURCE}; loss: equation 7",
    limits=_LIMITS | {"targets": TARGETS},
    passes=_targeted_passes,
    iterative=lambda settings: settings["steps"] > 1,
    counts_as=CountsAs(
        role="targeted",
        everywhere={"steps": 10, "targets": 3},
        near={"steps": 100, "targets": 5},
        near_l1=_NEAR_L1,
    ),
)
