"""Plain projected ascent that writes down what it met: the probes' own attack, independent of the suite's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.pgd import TRAVEL
from secure_ai.red.evasion.math import projections
from secure_ai.red.evasion.math.losses import Loss, margin
from secure_ai.red.evasion.trust.probes.probe import all_zero, not_finite, raw_gradient


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """An ascent of S steps from N samples.

    Attributes:
        margin: (S + 1, N) logit margin at every iterate, the start first; above 0: misclassified.
        zero: (S, N) bool: where the gradient was exactly zero.
        nonfinite: (S, N) bool: where it held NaN or infinity.
    """

    margin: Tensor
    zero: Tensor
    nonfinite: Tensor

    @property
    def broken(self) -> Tensor:
        """(N,) bool: misclassified at some iterate."""
        return (self.margin > 0).any(dim=0)


def ascend(
    target: NetworkTarget,
    x: Tensor,
    y: Tensor,
    *,
    start: Tensor,
    budget: PerturbationBudget,
    steps: int,
    loss: Loss,
    travel: float = TRAVEL,
) -> Trace:
    """Climb `loss` for `steps` steps of `travel` eps / `steps` each; all samples stay to the end.

    `steps` backward and `steps` + 1 forward passes a sample. An entry of a gradient that is not finite counts as 0.

    Args:
        x: (N, C, H, W) clean images.
        start: (N, C, H, W) inside ball and [0, 1].
        budget: linf, l2 or l1.
    """
    x_adv, step_size = start, travel * budget.eps / steps
    margins, zero, nonfinite = [], [], []
    for _ in range(steps):
        logits, _, gradient = raw_gradient(target, x_adv, y, loss)
        margins.append(margin(logits, y))
        zero.append(all_zero(gradient))
        nonfinite.append(not_finite(gradient))
        step = projections.steepest(gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), budget.norm)
        x_adv = projections.project(x_adv + step_size * step, x, budget)
    with torch.no_grad():
        margins.append(margin(target.logits(x_adv), y))
    return Trace(torch.stack(margins), torch.stack(zero), torch.stack(nonfinite))


def survivors(
    target: NetworkTarget, x: Tensor, y: Tensor, *, start: Tensor, budget: PerturbationBudget, steps: int, loss: Loss
) -> Tensor:
    """(N,) bool: right at every iterate. As `ascend`, but a sample leaves as soon as it is misclassified."""
    rows, x_adv, step_size = torch.arange(len(y), device=y.device), start, TRAVEL * budget.eps / steps
    alive = torch.ones_like(y, dtype=torch.bool)
    for step in range(steps + 1):
        if step == steps:
            with torch.no_grad():
                alive[rows] = target.logits(x_adv).argmax(dim=1) == y[rows]
            break
        logits, _, gradient = raw_gradient(target, x_adv, y[rows], loss)
        left = logits.argmax(dim=1) == y[rows]
        alive[rows[~left]] = False
        rows, x_adv, gradient = rows[left], x_adv[left], gradient[left]
        if not len(rows):
            break
        direction = projections.steepest(gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), budget.norm)
        x_adv = projections.project(x_adv + step_size * direction, x[rows], budget)
    return alive
