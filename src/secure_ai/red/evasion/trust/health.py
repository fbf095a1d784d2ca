"""Are the gradients that attacks follow there at all?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.red.evasion.contract import SHARD_SIZE
from secure_ai.red.evasion.math.losses import cross_entropy


@dataclass(frozen=True, slots=True)
class GradientHealth:
    """Of `n` correctly classified samples: how many have no usable gradient at the clean image.

    Attributes:
        zero: every entry is 0.
        nonfinite: some entry is NaN or infinite.
    """

    n: int
    zero: int
    nonfinite: int


def gradient_health(target: NetworkTarget, x: np.ndarray | Tensor, y: np.ndarray | Tensor) -> GradientHealth:
    """Take the gradient of the cross-entropy at every clean image, in float32: one forward and one backward pass each.

    Args:
        x: (N, C, H, W) uint8, or float32 in [0, 1].
        y: (N,) the true labels; samples that are misclassified do not count.
    """
    labels = labels_to_tensor(y)
    n, zero, nonfinite = 0, 0, 0
    with target.attacked(), torch.enable_grad():
        for first in range(0, len(labels), SHARD_SIZE):
            part = slice(first, first + SHARD_SIZE)
            images = images_to_float(x[part]).to(target.device).requires_grad_(True)
            there = labels[part].to(target.device)
            logits = target.logits(images)
            gradient = torch.zeros_like(images)
            if logits.requires_grad:  # else the graph is cut on the way, and no gradient arrives
                loss = cross_entropy(logits, there).sum()
                (gradient,) = torch.autograd.grad(loss, images, allow_unused=True, materialize_grads=True)
            flat = gradient.flatten(1)[logits.argmax(dim=1) == there]
            n += len(flat)
            zero += int((flat == 0).all(dim=1).sum())
            nonfinite += int((~torch.isfinite(flat)).any(dim=1).sum())
    return GradientHealth(n, zero, nonfinite)
