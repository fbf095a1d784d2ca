"""One ascent of APGD: evaluate, keep the best point, let the control move and adapt (2003.01690, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.active_set import Record, UnderWay, keep_rows, where_rows
from secure_ai.red.evasion.math.input_gradient import leaf, slope

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Loss (R,) of logits (R, K), labels `y` (R,) and the class aimed at (R,); a loss without an aim ignores the last."""


@dataclass(slots=True, kw_only=True)
class Walk(UnderWay):
    """Where an ascent is.

    Attributes:
        aim: the class the loss pulls to.
        previous: the iterate before `x_adv`.
        best: the point with the highest loss, with its loss and gradient.
        rises: how often the loss rose since the last checkpoint.
    """

    aim: Tensor
    x_adv: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    rises: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ascent:
    """What stays the same during an ascent.

    Attributes:
        checkpoints: steps after which the control adapts.
        rho: share of steps that must raise the loss.
        leave: whether a sample that met its goal leaves at once.
    """

    target: Target
    score: Score
    budget: PerturbationBudget
    steps: int
    eot_samples: int
    checkpoints: frozenset[int]
    rho: float
    leave: bool = True


class Control(Protocol):
    """How an ascent moves and when it changes its mind: a dataclass of tensors with R rows."""

    def move(self, walk: Walk, ascent: Ascent, *, first: bool) -> Tensor:
        """The next iterate, inside the budget."""
        ...

    def adapt(self, walk: Walk, ascent: Ascent, interval: int) -> None:
        """At a checkpoint, `interval` steps after the last: change the step sizes, go back to the best point."""
        ...


def evaluate(ascent: Ascent, walk: Walk, *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Logits (R, K) and losses (R,) at `walk.x_adv`, the means of `eot_samples` passes; may set `walk.gradient`.

    Note:
        The prediction is that of the mean logits, so that one lucky draw of a random model does not end the search.
    """
    logits_sum, loss_sum, slope_sum = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for _ in range(ascent.eot_samples):
        with torch.set_grad_enabled(gradient):
            x_adv = leaf(walk.x_adv) if gradient else walk.x_adv
            logits = ascent.target.logits(x_adv)
            loss = ascent.score(logits, walk.y, walk.aim)
            if gradient:
                slope_sum = slope_sum + slope(loss, x_adv)
        logits_sum, loss_sum = logits_sum + logits.detach(), loss_sum + loss.detach()
    if gradient:
        walk.gradient = slope_sum
    return logits_sum / ascent.eot_samples, loss_sum / ascent.eot_samples


def _depart(walk: Walk, control: Control, record: Record, logits: Tensor) -> None:
    met = walk.goal.surely_met(logits)
    if bool(met.any()):
        record.take_success(walk.row[met], walk.x_adv[met])
        keep_rows(walk, ~met)
        keep_rows(control, ~met)


def climb(ascent: Ascent, walk: Walk, control: Control, record: Record) -> None:
    """Run an ascent of `walk`, whose `x_adv` is the start; what it finds goes into `record`.

    A sample that never meets its goal costs `steps + 1` forward and `steps` backward passes, times `eot_samples`.
    """
    logits, walk.loss = evaluate(ascent, walk, gradient=True)
    walk.best, walk.best_gradient, walk.best_loss = walk.x_adv.clone(), walk.gradient.clone(), walk.loss.clone()
    walk.previous, walk.rises = walk.x_adv.clone(), torch.zeros_like(walk.loss)
    if ascent.leave:
        _depart(walk, control, record, logits)
    checked = 0
    for step in range(1, ascent.steps + 1):
        if not len(walk.row):
            return
        if step - 1 in ascent.checkpoints:
            control.adapt(walk, ascent, step - 1 - checked)
            checked, walk.rises = step - 1, torch.zeros_like(walk.loss)
        walk.x_adv, walk.previous = control.move(walk, ascent, first=step == 1), walk.x_adv
        last = step == ascent.steps
        logits, loss = evaluate(ascent, walk, gradient=not last)
        _note(walk, loss, with_gradient=not last)
        if ascent.leave:
            _depart(walk, control, record, logits)
    none = torch.zeros_like(walk.row, dtype=torch.bool)
    record.offer(walk.row, walk.best, met=none, distance=walk.best_loss, strength=walk.best_loss)


def _note(walk: Walk, loss: Tensor, *, with_gradient: bool) -> None:
    walk.rises += loss > walk.loss
    walk.loss = loss
    improved = loss > walk.best_loss
    walk.best = where_rows(improved, walk.x_adv, walk.best)
    walk.best_loss = torch.where(improved, loss, walk.best_loss)
    if with_gradient:
        walk.best_gradient = where_rows(improved, walk.gradient, walk.best_gradient)
