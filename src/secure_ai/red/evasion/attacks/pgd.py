"""FGSM and PGD: the attacks that follow the gradient of the cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import AttackSettingsError
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math import projections
from secure_ai.red.evasion.math.active_set import Goal, Record, UnderWay, active_rows, keep_rows
from secure_ai.red.evasion.math.input_gradient import leaf, slope
from secure_ai.red.evasion.math.losses import cross_entropy

TRAVEL = 2.5  # in eps: sum of PGD's steps, so that it can cross the ball and turn (MNIST challenge, 1706.06083)


def _loss(logits: Tensor, goal: Goal) -> Tensor:
    """To be maximised, (N,): the cross-entropy of `y`, or minus that of `target_label`."""
    return cross_entropy(logits, goal.y) if goal.target_label is None else -cross_entropy(logits, goal.target_label)


def fgsm(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    labels: str = "true",
) -> Tensor:
    """The fast gradient sign method (1412.6572, section 4): one step of length eps from `x`, clipped to [0, 1].

    One forward and one backward pass a sample. l2: along the normalised gradient; l1 and l0: the exact maximiser of
    the linearised loss, which is what the sign is for linf.

    Args:
        target: see `Attack`, as for all arguments down to `active`; nothing is drawn from `generator`.
        labels: `true`, or `predicted`: away from the network's own answer, whatever the true label is.

    Returns:
        x_adv (N, C, H, W).
    """
    rows = active_rows(y, active)
    start = leaf(x[rows])
    with torch.enable_grad():
        logits = target.logits(start)
        away_from = logits.argmax(dim=1) if labels == "predicted" else y[rows]
        loss = _loss(logits, Goal(away_from, None if target_label is None else target_label[rows]))
        gradient = slope(loss, start)
    start = start.detach()
    if budget.norm in ("l1", "l0"):
        step = projections.linear_maximiser(gradient, start, budget)
    else:
        step = budget.eps * projections.steepest(gradient, budget.norm)
    result = x.clone()
    result[rows] = projections.project((start + step).clamp_(0, 1), start, budget)
    return result


@torch.no_grad()
def pgd(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 40,
    step_size_rel: float = 0.0,
    restarts: int = 1,
    random_start: bool = True,
    momentum: float = 0.0,
    eot_samples: int = 1,
) -> Tensor:
    """Projected gradient descent (1706.06083, section 2.1); a sample leaves as soon as it is broken.

    The forward pass that a gradient needs also tells who is broken, so a sample that never is costs `steps` forward
    and `steps` backward passes and one forward pass of the last iterate, all times `eot_samples` and `restarts`.

    Args:
        target: see `Attack`, as for all arguments down to `active`; the norm is linf, l2 or l1.
        steps: gradient updates per restart.
        step_size_rel: step size in units of eps; 0 stands for 2.5 / `steps`.
        restarts: independent runs from new random starts; a broken sample starts none.
        random_start: start from a random point of the ball, not from `x`.
        momentum: decay of the accumulated gradient (MI-FGSM, 1710.06081, eq. 6); 0: none.
        eot_samples: passes averaged for one gradient, for random networks (EOT, 1707.07397).

    Returns:
        x_adv (N, C, H, W): the iterate that met the goal first, else the one of highest loss in all restarts.

    Raises:
        AttackSettingsError: restarts without random starts, which would repeat one search.
    """
    if restarts > 1 and not random_start:
        raise AttackSettingsError(
            "restarts without random starts repeat one search", where="pgd", expected="random_start=true", got=restarts
        )
    climb = _Climb(
        target, budget, steps, (step_size_rel or TRAVEL / steps) * budget.eps, momentum, eot_samples, random_start
    )
    record = Record.empty(x)
    rows = active_rows(y, active)
    for _ in range(restarts):
        start = projections.random_start(x, budget, generator) if random_start else x
        here = Goal(y, target_label).at(rows)
        walk = _Walk(
            row=rows.clone(),
            x=x[rows],
            y=here.y,
            target_label=here.target_label,
            x_adv=start[rows],
            velocity=torch.zeros_like(x[rows]) if momentum else None,
            gradient=torch.zeros(0),
        )
        climb.run(walk, record)
        rows = rows[torch.isinf(record.distance[rows])]
        if not len(rows):
            break
    return record.x_adv


@dataclass(slots=True, kw_only=True)
class _Walk(UnderWay):
    """`velocity` accumulates gradients, None without momentum; `gradient` is the last one."""

    x_adv: Tensor
    velocity: Tensor | None
    gradient: Tensor


@dataclass(frozen=True, slots=True)
class _Climb:
    """One run of projected steps."""

    target: Target
    budget: PerturbationBudget
    steps: int
    step_size: float
    momentum: float
    samples: int
    random_start: bool

    def run(self, walk: _Walk, record: Record) -> None:
        """Climb from `walk.x_adv` and offer every iterate to `record`."""
        for step in range(self.steps + 1):
            last = step == self.steps
            loss, met = self._evaluate(walk, with_gradient=not last)
            if step == 0 and not self.random_start:
                loss = torch.full_like(loss, -torch.inf)  # the clean image is no attempt
            record.offer(walk.row, walk.x_adv, met=met, distance=torch.zeros_like(loss), strength=loss)
            if last:
                return
            keep_rows(walk, ~met)
            if not len(walk.row):
                return
            step_taken = self.step_size * self._direction(walk)
            walk.x_adv = projections.project(walk.x_adv + step_taken, walk.x, self.budget)

    def _evaluate(self, walk: _Walk, *, with_gradient: bool) -> tuple[Tensor, Tensor]:
        """Loss (R,) and goal met (R,) bool; may set `walk.gradient`. Over several EOT samples: of the mean logits."""
        loss, logits, gradient = torch.zeros(()), torch.zeros(()), torch.zeros(())
        for _ in range(self.samples):
            with torch.set_grad_enabled(with_gradient):
                point = leaf(walk.x_adv) if with_gradient else walk.x_adv
                answer = self.target.logits(point)
                value = _loss(answer, walk.goal)
                if with_gradient:
                    gradient = gradient + slope(value, point)
            loss, logits = loss + value.detach(), logits + answer.detach()
        if with_gradient:
            walk.gradient = gradient
        return loss / self.samples, walk.goal.met(logits)

    def _direction(self, walk: _Walk) -> Tensor:
        gradient = walk.gradient
        if walk.velocity is not None:
            mean_size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(projections.SMALLEST)
            walk.velocity = self.momentum * walk.velocity + gradient / mean_size
            gradient = walk.velocity
        if self.budget.norm == "l1":  # few values move in a step: spend none on those that [0, 1] stops (SLIDE)
            stopped = ((walk.x_adv <= 0) & (gradient < 0)) | ((walk.x_adv >= 1) & (gradient > 0))
            gradient = gradient.masked_fill(stopped, 0)
        return projections.steepest(gradient, self.budget.norm)
