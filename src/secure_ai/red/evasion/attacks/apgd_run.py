"""One run of APGD: evaluate, keep the best point, let the step rule move and adapt (2003.01690, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.active_set import ActiveSamples, Best, keep_samples, where_samples
from secure_ai.red.evasion.math.input_gradient import evaluate

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Loss (R,) of logits (R, K), labels `y` (R,) and the class aimed at (R,); an untargeted loss ignores the last."""


@dataclass(frozen=True, slots=True)
class Run:
    """What stays the same during a run.

    Attributes:
        stop_early: whether a sample leaves as soon as it is adversarial.
    """

    target: Target
    score: Score
    budget: PerturbationBudget
    steps: int
    eot_samples: int
    stop_early: bool = True


@dataclass(slots=True)
class Iterates:
    """Where a run is: tensors with R samples each.

    Attributes:
        towards: the class that a targeted loss aims at.
        previous: the iterate before `x_adv`.
        best: the point with the highest loss, with its loss and gradient.
        rises: how often the loss rose since the last checkpoint.
    """

    towards: Tensor
    x_adv: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    rises: Tensor

    @classmethod
    def start(cls, x_adv: Tensor, towards: Tensor) -> Iterates:
        """At `x_adv` (R, C, H, W), of which no loss is known yet."""
        never = x_adv.new_full((len(x_adv),), -torch.inf)
        return cls(
            towards=towards,
            x_adv=x_adv,
            previous=x_adv.clone(),
            gradient=torch.zeros_like(x_adv),
            loss=never,
            best=x_adv.clone(),
            best_gradient=torch.zeros_like(x_adv),
            best_loss=never.clone(),
            rises=torch.zeros_like(never),
        )


class StepRule(Protocol):
    """How a run moves and when it changes its step: a dataclass of tensors with R samples."""

    def move(self, at: Iterates, x: Tensor, budget: PerturbationBudget, *, first: bool) -> Tensor:
        """The next iterate, inside the budget around `x` (R, C, H, W)."""
        ...

    def adapt(self, at: Iterates, x: Tensor, budget: PerturbationBudget, interval: int) -> None:
        """At a checkpoint, `interval` steps after the last: change the step sizes, go back to the best point."""
        ...


def run_apgd(run: Run, samples: ActiveSamples, at: Iterates, rule: StepRule, checkpoints: Set[int], best: Best) -> None:
    """Maximise the loss of `samples` from `at.x_adv`; what is found goes into `best`.

    Args:
        checkpoints: steps after which the rule adapts.
    """
    checked = 0
    for step in range(run.steps + 1):
        if not len(samples):
            return
        if step > 0:
            if step - 1 in checkpoints:
                rule.adapt(at, samples.x, run.budget, step - 1 - checked)
                checked, at.rises = step - 1, torch.zeros_like(at.loss)
            at.x_adv, at.previous = rule.move(at, samples.x, run.budget, first=step == 1), at.x_adv
        logits = _evaluate(run, samples, at, first=step == 0, last=step == run.steps)
        if run.stop_early:
            adversarial = samples.criterion.is_clearly_adversarial(logits)
            if bool(adversarial.any()):
                best.add_success(samples.index[adversarial], at.x_adv[adversarial])
                keep_samples(~adversarial, samples, at, rule)
    none = torch.zeros_like(samples.index, dtype=torch.bool)
    best.offer(samples.index, at.best, adversarial=none, score=at.best_loss)


def _evaluate(run: Run, samples: ActiveSamples, at: Iterates, *, first: bool, last: bool) -> Tensor:
    """Mean logits (R, K) at `at.x_adv`, whose loss and gradient become those of `at`.

    Note:
        The prediction is that of the mean logits, so that one lucky pass of a random model does not end the search.
    """

    def loss_of(logits: Tensor) -> Tensor:
        return run.score(logits, samples.y, at.towards)

    logits, loss, gradient = evaluate(
        run.target, at.x_adv, loss_of, gradient=first or not last, eot_samples=run.eot_samples
    )
    improved = torch.ones_like(loss, dtype=torch.bool) if first else loss > at.best_loss
    if not first:
        at.rises += loss > at.loss
    at.loss = loss
    at.best, at.best_loss = where_samples(improved, at.x_adv, at.best), torch.where(improved, loss, at.best_loss)
    if not last:
        at.gradient, at.best_gradient = gradient, where_samples(improved, gradient, at.best_gradient)
    return logits
