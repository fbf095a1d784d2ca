"""Gradients of scores with respect to pixels, made safe for models that have none."""

from __future__ import annotations

import torch
from torch import Tensor


def slope(scores: Tensor, x: Tensor, *, again: bool = False) -> Tensor:
    """Gradient of the sum of `scores` (R,) at `x` (R, C, H, W): since samples do not mix, one gradient a sample.

    Zero where a model has no gradient (a detached or piecewise constant one) or answers NaN or infinity: an attack on
    such a model fails, and the verdict on it says why; it must not crash or leave [0, 1].

    Args:
        scores: computed from `x` with gradients enabled.
        again: another gradient of the same pass follows.
    """
    if not scores.requires_grad:
        return torch.zeros_like(x)
    with torch.enable_grad():
        total = scores.sum()  # given weights instead, torch would load sympy first: 0.3 s and 35 MiB
    gradient: Tensor | None = torch.autograd.grad(total, x, retain_graph=again, allow_unused=True)[0]
    if gradient is None:
        return torch.zeros_like(x)
    return gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


def leaf(x: Tensor) -> Tensor:
    """`x` as the start of a new graph, sharing its memory."""
    return x.detach().requires_grad_()
