"""Robust training in your own loop: adversarial examples of a batch, and one whole step on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.budget import Norm, parse_budget
from secure_ai.core.errors import NonFiniteError
from secure_ai.runs.stages.adversaries import pgd_examples as _examples
from secure_ai.runs.stages.adversaries import still

__all__ = ["pgd_examples", "pgd_step"]


def pgd_examples(
    network: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, eps: float, steps: int, generator: torch.Generator
) -> Tensor:
    """PGD with a random start; every sample takes every step (Madry et al., 1706.06083, section 2.1).

    The network is in evaluation mode meanwhile and frozen; modes and `requires_grad` come back.

    Args:
        network: from x to logits (N, K).
        x: (N, C, H, W) float32 in [0, 1]. Normalise inside the network.
        y: (N,) int64.
        norm: linf, l2 or l1.
        eps: on pixels in [0, 1]; a ramp over the first epochs helps where it is large.
        steps: gradient steps, each 2.5 eps / steps long.
        generator: draws the starts.

    Returns:
        x_adv (N, C, H, W), within eps of x and within [0, 1], without gradients.

    Raises:
        BudgetError: an unknown norm, or eps outside its range.
    """
    with still(network):
        return _examples(network, x, y, budget=parse_budget(norm, eps, x[0].numel()), steps=steps, generator=generator)


def pgd_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    steps: int,
    generator: torch.Generator,
) -> float:
    """One step of adversarial training: examples of the batch, cross-entropy on them, gradient, `optimizer.step()`.

    Arguments as of `pgd_examples`; the network keeps the mode that it is in.

    Returns:
        The loss, before the step.

    Raises:
        BudgetError: as of `pgd_examples`.
        NonFiniteError: the loss is not finite; no step was made.
    """
    x_adv = pgd_examples(network, x, y, norm=norm, eps=eps, steps=steps, generator=generator)
    loss = functional.cross_entropy(network(x_adv), y)
    if not bool(torch.isfinite(loss)):
        raise NonFiniteError("the training loss is not finite", hint="a lower learning rate, or an eps that grows")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())
