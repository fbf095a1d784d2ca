"""Gradients of scores with respect to pixels, made safe for models that have none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from secure_ai.models.target.target import Target


def input_gradient(scores: Tensor, x: Tensor, *, retain_graph: bool = False) -> Tensor:
    """Gradient of the sum of `scores` (R,) at `x` (R, C, H, W): since samples do not mix, one gradient a sample.

    Zero where a model has no gradient (a detached or piecewise constant one) or returns NaN or infinity: an attack on
    such a model fails, and the verdict on it says why; it must not crash or leave [0, 1].

    Args:
        scores: computed from `x` with gradients enabled.
        retain_graph: another gradient of the same pass follows.
    """
    if not scores.requires_grad:
        return torch.zeros_like(x)
    with torch.enable_grad():
        total = scores.sum()  # given weights instead, torch would load sympy first: 0.3 s and 35 MiB
    gradient: Tensor | None = torch.autograd.grad(total, x, retain_graph=retain_graph, allow_unused=True)[0]
    if gradient is None:
        return torch.zeros_like(x)
    if 0 in gradient.stride():  # of a network that sums pixels, say: one value stands for many
        gradient = gradient.clone(memory_format=torch.contiguous_format)
    return gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


def requiring_grad(x: Tensor) -> Tensor:
    """`x` as the start of a new graph, sharing its memory."""
    return x.detach().requires_grad_()


def evaluate(
    target: Target, x_adv: Tensor, loss: Callable[[Tensor], Tensor], *, gradient: bool = True, eot_samples: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and, with `gradient`, one backward pass, each `eot_samples` times.

    Args:
        x_adv: (R, C, H, W).
        loss: of logits (R, K), one value a sample.
        gradient: false: zeros in its place, and no backward pass.
        eot_samples: passes that are averaged, for a network that is random (EOT, 1707.07397).

    Returns:
        Mean logits (R, K), mean loss (R,), and the sum of the loss's input gradients (R, C, H, W), all detached.
    """
    logits_sum = loss_sum = gradient_sum = x_adv.new_zeros(())
    for _ in range(eot_samples):
        with torch.set_grad_enabled(gradient):
            point = requiring_grad(x_adv) if gradient else x_adv
            logits = target.logits(point)
            value = loss(logits)
        here = input_gradient(value, point) if gradient else torch.zeros_like(x_adv)
        logits_sum, loss_sum = logits_sum + logits.detach(), loss_sum + value.detach()
        gradient_sum = gradient_sum + here
    return logits_sum / eot_samples, loss_sum / eot_samples, gradient_sum
