"""The two step rules of APGD: step halving with momentum for linf and l2, adaptive sparsity for l1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.red.evasion.attacks.apgd_run import Iterates
from secure_ai.red.evasion.math.active_set import per_sample, where_samples
from secure_ai.red.evasion.math.projections import project
from secure_ai.red.evasion.math.scale import unit_sized

MOMENTUM_KEEP = 0.75  # alpha of 2003.01690, section 3.1
RHO = 0.75  # fraction of the steps that must raise the loss (section 3.1)
INITIAL_STEP = 2.0  # in units of eps, for linf and l2
L1_FRACTION = 0.2  # of the pixels, in the first step (2103.01208, section 3.3)
L1_FRACTION_FALL = 1.5  # the fraction becomes the best point's support over this
L1_SUPPORT_KEPT = 0.95  # a smaller support than this fraction of the last means a new start with the full step
L1_STEP_FALL, L1_STEP_LOWEST = 1.5, 0.1  # the step falls by the first, not below the second times eps
TINY = 1e-12


def halving_checkpoints(steps: int) -> frozenset[int]:
    """Checkpoints w_j of 2003.01690, section 3.1: p = 0, 0.22, then each gap 0.03 shorter, at least 0.06."""
    gap, least, shorter = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    found, at = set(), gap
    while at <= steps:
        found.add(at)
        gap = max(gap - shorter, least)
        at += gap
    return frozenset(found)


def sparse_checkpoints(steps: int) -> frozenset[int]:
    """Every 4 % of the steps (2103.01208, section 3.3)."""
    every = max(int(0.04 * steps), 1)
    return frozenset(range(every, steps + 1, every))


def into_l2_ball(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    """Onto the l2 ball, then clipped to [0, 1], which brings no value further from `x`."""
    delta = x_adv - x
    norm = delta.flatten(1).norm(dim=1)
    return delta.mul_(per_sample((eps / norm.clamp_min(TINY)).clamp_max(1))).add_(x).clamp_(0, 1)


@dataclass(slots=True, kw_only=True)
class Halving:
    """Momentum, and steps halved when half of the way brought too little (2003.01690, algorithm 1, conditions 1 and 2).

    Attributes:
        low, high: linf: lower and upper bound of every pixel; None for l2.
        step: (R,) step size.
        checked: (R,) best loss at the last checkpoint.
        halved: (R,) bool: the step was halved there; true at the start, where condition 2 has nothing to compare.
    """

    low: Tensor | None
    high: Tensor | None
    step: Tensor
    checked: Tensor
    halved: Tensor

    @classmethod
    def start(cls, x: Tensor, budget: PerturbationBudget) -> Halving:
        """For the samples `x` (R, C, H, W)."""
        ones = x.new_ones(len(x))
        box = budget.norm == "linf"
        return cls(
            low=(x - budget.eps).clamp_(min=0) if box else None,
            high=(x + budget.eps).clamp_(max=1) if box else None,
            step=ones * INITIAL_STEP * budget.eps,
            checked=torch.zeros_like(ones),
            halved=torch.ones_like(ones, dtype=torch.bool),
        )

    def move(self, at: Iterates, x: Tensor, budget: PerturbationBudget, *, first: bool) -> Tensor:
        """Three quarters of the projected gradient step and a quarter of the last move, projected again."""
        step = per_sample(self.step)
        if self.low is not None and self.high is not None:
            z = torch.sign(at.gradient).mul_(step).add_(at.x_adv).clamp_(self.low, self.high)
            return z if first else _blend(z, at).clamp_(self.low, self.high)
        gradient = unit_sized(at.gradient)
        z = at.x_adv + gradient * (step / per_sample(gradient.flatten(1).norm(dim=1).clamp_min(TINY)))
        z = into_l2_ball(z, x, budget.eps)
        return z if first else into_l2_ball(_blend(z, at), x, budget.eps)

    def adapt(self, at: Iterates, x: Tensor, budget: PerturbationBudget, interval: int) -> None:
        """Halve where the loss rose in at most rho of the steps, or neither step nor best loss changed since."""
        stuck = ~self.halved & (self.checked >= at.best_loss)
        self.halved = (at.rises <= RHO * interval) | stuck
        self.checked = at.best_loss.clone()
        self.step = torch.where(self.halved, self.step / 2, self.step)
        _return_to_best(at, self.halved)


def _blend(z: Tensor, at: Iterates) -> Tensor:
    keep = MOMENTUM_KEEP
    return z.mul_(keep).add_(at.x_adv, alpha=2 - 2 * keep).sub_(at.previous, alpha=1 - keep)


@dataclass(slots=True, kw_only=True)
class Sparse:
    """l1: steps of a few pixels, fewer as the best point's support shrinks (2103.01208, algorithm 1).

    Attributes:
        fraction: (R,) of the values, moved in a step.
        support: (R,) values the best point had changed at the last checkpoint.
        step: (R,) l1 length of a step.
    """

    fraction: Tensor
    support: Tensor
    step: Tensor

    @classmethod
    def start(cls, x: Tensor, x_adv: Tensor, budget: PerturbationBudget, *, warm: bool) -> Sparse:
        """For the samples `x`, starting at `x_adv`; `warm`: the radius schedule is in use."""
        ones, size = x.new_ones(len(x)), x[0].numel()
        support = support_size(x_adv, x) if warm else ones * size
        fraction = support / size / L1_FRACTION_FALL if warm else ones * L1_FRACTION
        return cls(fraction=fraction, support=support, step=ones * budget.eps)

    def move(self, at: Iterates, x: Tensor, budget: PerturbationBudget, *, first: bool) -> Tensor:
        """A step of l1 length `step` along the signs of the largest gradient values, projected."""
        direction = sparse_signs(at.gradient, self.fraction)
        return project(at.x_adv + per_sample(self.step) * direction, x, budget)

    def adapt(self, at: Iterates, x: Tensor, budget: PerturbationBudget, interval: int) -> None:
        """A smaller support: the full step again, from the best point; else a smaller step."""
        support, eps = support_size(at.best, x), budget.eps
        shrank = support < L1_SUPPORT_KEPT * self.support
        self.fraction = support / x[0].numel() / L1_FRACTION_FALL
        self.step = torch.where(shrank, eps, (self.step / L1_STEP_FALL).clamp_min(L1_STEP_LOWEST * eps))
        self.support = support
        _return_to_best(at, shrank)


def _return_to_best(at: Iterates, chosen: Tensor) -> None:
    at.x_adv = where_samples(chosen, at.best, at.x_adv)
    at.gradient = where_samples(chosen, at.best_gradient, at.gradient)


def support_size(x_adv: Tensor, x: Tensor) -> Tensor:
    """Values that differ, (R,)."""
    return (x_adv != x).flatten(1).sum(dim=1).to(x.dtype)


def sparse_signs(gradient: Tensor, fraction: Tensor) -> Tensor:
    """Signs of the largest `fraction` (R,) of the values of each gradient (at least one), scaled to l1 norm 1."""
    size = gradient.flatten(1).abs()
    count = (size.shape[1] * fraction).ceil().clamp(1, size.shape[1]).long()
    largest = size.topk(int(count.max()), dim=1).values
    threshold = largest.gather(1, count[:, None] - 1)
    signs = gradient.flatten(1).sign() * (size >= threshold)
    return (signs / signs.abs().sum(dim=1, keepdim=True).clamp_min(1)).view_as(gradient)
