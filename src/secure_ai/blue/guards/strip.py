"""STRIP: an input whose prediction survives having other images laid over it is refused."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from secure_ai.blue.guards.guard import Guard, guard_by, half_of
from secure_ai.core.seeds import generator
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float

OVERLAYS = 32
TOGETHER = 64  # images mixed at once
MEAN = 0.5  # brightness of an image and those laid over it together, at most, but for LEAST
LEAST = 0.5  # of one other image


def entropies(target: NetworkTarget, x: np.ndarray, overlays: np.ndarray, seed: int) -> np.ndarray:
    """Mean entropy of the predictions under clean images laid over x, (N,) float64 in nats (STRIP, 1902.06531, eq. 5).

    Digits are mostly black: one other image hides so little of them that many clean predictions survive it.

    Args:
        x: (N, C, H, W) uint8 or float32.
        overlays: (M, C, H, W) clean images that the mixing partners are drawn from.
    """
    images, others = (images_to_float(one).to(target.device) for one in (x, overlays))
    count, weight = laid_over(others)
    shape = (len(images), OVERLAYS, count)
    draws = torch.randint(len(others), shape, generator=generator(seed, "strip"), device="cpu")
    scores = [torch.zeros(0, device="cpu")]
    with target.attacked(), torch.no_grad():
        for part, partners in zip(images.split(TOGETHER), draws.split(TOGETHER), strict=True):
            mixed: Tensor = part[:, None] + weight * others[partners[:, :, 0]]
            for number in range(1, count):
                mixed = mixed + weight * others[partners[:, :, number]]
            log_p = target.logits(mixed.clamp(0, 1).flatten(0, 1)).log_softmax(dim=1)
            scores.append(-(log_p.exp() * log_p).sum(dim=1).view(mixed.shape[:2]).mean(dim=1).cpu())
    return torch.cat(scores).double().numpy()


def laid_over(images: Tensor) -> tuple[int, float]:
    """How many images are laid over another, and with what weight: whole ones if MEAN allows, else a part of one."""
    room = MEAN / max(float(images.mean()), 0.1) - 1
    return max(1, int(room)), min(1.0, max(LEAST, room))


def strip_guard(target: NetworkTarget, clean: np.ndarray, *, false_refusals: float, seed: int) -> Guard:
    """A guard with its threshold from clean images.

    Note: blind to source-specific triggers and to those that do not survive mixing (warps).

    Args:
        clean: (M, C, H, W); one half is mixed in, the other sets the threshold.
        false_refusals: fraction of clean inputs that may be refused, in (0, 1).

    Raises:
        UsageError, EmptyDataError: no such fraction, or too few clean images for it.
    """
    half = half_of(len(clean), false_refusals)
    overlays = clean[:half]
    return guard_by(lambda x: -entropies(target, x, overlays, seed), clean[half:], false_refusals)
