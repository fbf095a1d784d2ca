"""The maximum-margin statistic: how far any input at all can be driven into each class. It needs no data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from secure_ai.core.seeds import generator, uniform
from secure_ai.models.target.target import NetworkTarget

STARTS, STEPS, LEARNING_RATE = 5, 50, 0.05


def max_margins(target: NetworkTarget, seed: int) -> np.ndarray:
    """The largest logit margin found for each class, over random images in [0, 1] (MM-BD, 2205.06900, section 4).

    A backdoor's target class can be driven further than the others, whatever the trigger looks like.

    Note: Adam with a few starts, where the paper takes 300 steps of SGD from 30.

    Returns:
        (K,) float64: max over x of logit_c(x) - the largest other logit.
    """
    x = starts(target.num_classes, target.input_shape, seed, target.device)
    with target.attacked():
        best = driven(target.logits, x, torch.arange(target.num_classes, device=x.device).repeat_interleave(STARTS))
    return best.view(target.num_classes, STARTS).amax(dim=1).double().cpu().numpy()


def starts(classes: int, shape: tuple[int, int, int], seed: int, device: torch.device) -> Tensor:
    """Random images (K * STARTS, C, H, W), those of a class side by side."""
    return uniform((classes * STARTS, *shape), generator(seed, "max-margin"), device)


def driven(logits: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """The largest margin of each image's label on its way up, (N,).

    Args:
        logits: (N, C, H, W) in [0, 1] -> (N, K).
        x: where it begins; labels: (N,), the class each is driven into.
    """
    x = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=LEARNING_RATE)
    best = torch.full((len(labels),), -torch.inf, device=x.device)
    for _ in range(STEPS):
        found = logits(x)
        own = functional.one_hot(labels, found.shape[1]).bool()
        margins = found[own] - found.masked_fill(own, -torch.inf).amax(dim=1)
        best = torch.maximum(best, margins.detach())
        optimizer.zero_grad(set_to_none=True)
        (-margins.sum()).backward()
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return best
