"""FGSM and PGD: the attacks that follow the gradient of the cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.core.errors import AttackSettingsError
from secure_ai.red.evasion.contract import EOT_SAMPLES, RESTARTS, STEPS, AttackEntry, Passes, Settings, Shard, on_shard
from secure_ai.red.evasion.math import projections
from secure_ai.red.evasion.math.active_set import Criterion, keep_samples
from secure_ai.red.evasion.math.input_gradient import evaluate
from secure_ai.red.evasion.math.losses import cross_entropy

TRAVEL = 2.5  # in eps: sum of PGD's steps, so that it can cross the ball and turn (MNIST challenge, 1706.06083)


def cross_entropy_against(logits: Tensor, criterion: Criterion) -> Tensor:
    """To be maximised, (R,): the cross-entropy of `y`, or minus that of `target_label`."""
    aimed = criterion.target_label
    return cross_entropy(logits, criterion.y) if aimed is None else -cross_entropy(logits, aimed)


@on_shard
def fgsm(shard: Shard, *, labels: str = "true") -> None:
    """The fast gradient sign method (1412.6572, section 4): one step of length eps from `x`, clipped to [0, 1].

    l2: along the normalised gradient; l1 and l0: the exact maximiser of the linearised loss, which is what the sign is
    for linf.

    Args:
        labels: `true`, or `predicted`: away from the network's own prediction, whatever the true label is.

    Returns:
        x_adv (N, C, H, W).
    """
    best, budget, samples = shard.best, shard.budget, shard.best.samples()

    def loss(logits: Tensor) -> Tensor:
        away_from = logits.argmax(dim=1) if labels == "predicted" else samples.y
        return cross_entropy_against(logits, Criterion(away_from, samples.target_label))

    _, _, gradient = evaluate(shard.target, samples.x, loss)
    if budget.norm in ("l1", "l0"):
        step = projections.linear_maximiser(gradient, samples.x, budget)
    else:
        step = budget.eps * projections.steepest(gradient, budget.norm)
    best.x_adv[samples.index] = projections.project((samples.x + step).clamp_(0, 1), samples.x, budget)


@dataclass(slots=True)
class _State:
    """`velocity` accumulates gradients, None without momentum."""

    x_adv: Tensor
    gradient: Tensor
    velocity: Tensor | None


@on_shard
def pgd(
    shard: Shard,
    *,
    steps: int = 40,
    step_size_rel: float = 0.0,
    restarts: int = 1,
    random_start: bool = True,
    momentum: float = 0.0,
    eot_samples: int = 1,
) -> None:
    """Projected gradient descent (1706.06083, section 2.1); a sample leaves as soon as it is broken.

    The forward pass that a gradient needs also tells which samples are broken.

    Args:
        steps: gradient updates per restart.
        step_size_rel: step size in units of eps; 0 stands for 2.5 / `steps`.
        restarts: independent runs from new random starts; a broken sample starts none.
        random_start: start from a random point of the ball, not from `x`.
        momentum: decay of the accumulated gradient (MI-FGSM, 1710.06081, eq. 6); 0: none.
        eot_samples: passes averaged for one gradient, for random networks (EOT, 1707.07397); success is told by the
            mean logits.

    The result is the first adversarial iterate, else the one of highest loss in all restarts.

    Raises:
        AttackSettingsError: restarts without random starts, which would repeat one search.
    """
    if restarts > 1 and not random_start:
        raise AttackSettingsError(
            "restarts without random starts repeat one search", where="pgd", expected="random_start=true", got=restarts
        )
    best, budget = shard.best, shard.budget
    step_size = (step_size_rel or TRAVEL / steps) * budget.eps
    for _ in range(restarts):
        start = projections.random_start(best.x, budget, shard.generator) if random_start else best.x
        samples = best.unbroken()
        if not len(samples):
            break
        x_adv = start[samples.index]
        state = _State(x_adv, x_adv, torch.zeros_like(x_adv) if momentum else None)
        for step in range(steps + 1):
            if not len(samples):
                break
            last = step == steps
            objective = partial(cross_entropy_against, criterion=samples.criterion)
            logits, loss, state.gradient = evaluate(
                shard.target, state.x_adv, objective, gradient=not last, eot_samples=eot_samples
            )
            if step == 0 and not random_start:
                loss = torch.full_like(loss, -torch.inf)  # the clean image is no attempt
            adversarial = samples.criterion.is_adversarial(logits)
            best.offer(samples.index, state.x_adv, adversarial=adversarial, score=loss)
            if not last:
                keep_samples(~adversarial, samples, state)
                moved = state.x_adv + step_size * _direction(state, momentum, budget.norm)
                state.x_adv = projections.project(moved, samples.x, budget)


def _direction(state: _State, momentum: float, norm: Norm) -> Tensor:
    direction = state.gradient
    if state.velocity is not None:
        direction = state.velocity = accumulated(state.velocity, direction, momentum)
    return projections.steepest(unstopped(direction, state.x_adv) if norm == "l1" else direction, norm)


def accumulated(velocity: Tensor, gradient: Tensor, momentum: float) -> Tensor:
    """The velocity after one more gradient, each scaled to mean size 1 (1710.06081, eq. 6)."""
    mean_size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(projections.SMALLEST)
    return momentum * velocity + gradient / mean_size


def unstopped(direction: Tensor, x_adv: Tensor) -> Tensor:
    """`direction` without the values that [0, 1] stops: l1 moves few values in a step, and none to no purpose."""
    stopped = ((x_adv <= 0) & (direction < 0)) | ((x_adv >= 1) & (direction > 0))
    return direction.masked_fill(stopped, 0)


def _pgd_passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    runs = settings["restarts"] * settings["eot_samples"]
    return Passes(runs * (settings["steps"] + 1), runs * settings["steps"])


FGSM = AttackEntry(
    name="fgsm",
    attack=fgsm,
    norms=("linf", "l2", "l1", "l0"),
    knowledge="white-box",
    kind="budget",
    source="Goodfellow, Shlens and Szegedy, 1412.6572, section 4",
    choices={"labels": ("true", "predicted")},
    passes=lambda settings, classes, norm: Passes(1, 1),
)

PGD = AttackEntry(
    name="pgd",
    attack=pgd,
    norms=("linf", "l2", "l1"),
    knowledge="white-box",
    kind="budget",
    source="Madry et al., 1706.06083, section 2.1; momentum: 1710.06081; EOT: 1707.07397",
    limits={
        "steps": STEPS,
        "step_size_rel": (0.0, 2.0),
        "restarts": RESTARTS,
        "momentum": (0.0, 1.0),
        "eot_samples": EOT_SAMPLES,
    },
    passes=_pgd_passes,
    iterative=lambda settings: settings["steps"] > 1,
)
