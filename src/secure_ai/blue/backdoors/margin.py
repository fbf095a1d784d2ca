"""The maximum-margin statistic: how far any input at all can be driven into each class. It needs no data."""

from __future__ import annotations

import numpy as np
import torch

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
    classes = target.num_classes
    labels = torch.arange(classes, device=target.device).repeat_interleave(STARTS)
    x = uniform((len(labels), *target.input_shape), generator(seed, "max-margin"), target.device).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=LEARNING_RATE)
    best = torch.full((len(labels),), -torch.inf, device=target.device)
    own = torch.nn.functional.one_hot(labels, classes).bool()
    with target.attacked():
        for _ in range(STEPS):
            logits = target.logits(x)
            margins = logits[own] - logits.masked_fill(own, -torch.inf).amax(dim=1)
            best = torch.maximum(best, margins.detach())
            optimizer.zero_grad(set_to_none=True)
            (-margins.sum()).backward()
            optimizer.step()
            with torch.no_grad():
                x.clamp_(0, 1)
    return best.view(classes, STARTS).amax(dim=1).cpu().double().numpy()
