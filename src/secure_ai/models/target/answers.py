"""The digest of what a target computes: logits and input gradients on given images."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.nn import functional

from secure_ai.models.target.target import NetworkTarget


def answers_digest(target: NetworkTarget, x: Tensor, y: Tensor) -> str | None:
    """SHA-256 (hex) over the logits and, where the target offers them, the gradients of the cross-entropy.

    Two digests are equal only if every bit is. Passes are not counted.

    Args:
        x: (N, C, H, W) float32 in [0, 1], 64 images say.
        y: (N,) int64.

    Returns:
        None where two computations differ: a random network, or one whose outputs drift.

    Raises:
        TargetError: the network raises an error, or does not answer one score a class.
    """
    spent = target.passes.forward, target.passes.backward
    try:
        with target.attacked():
            first, second = _digest(target, x, y), _digest(target, x, y)
    finally:
        target.passes.forward, target.passes.backward = spent
    return first if first == second else None


def _digest(target: NetworkTarget, x: Tensor, y: Tensor) -> str:
    pixels = x.detach().clone().to(target.device).requires_grad_(target.access == "gradients")
    with torch.enable_grad():
        logits = target.logits(pixels)
        loss = functional.cross_entropy(logits, y.to(target.device), reduction="sum")
    gradient = torch.autograd.grad(loss, pixels, allow_unused=True)[0] if loss.requires_grad else None
    digest = hashlib.sha256(f"secure-ai answers 1\n{tuple(x.shape)} {tuple(logits.shape)}\n".encode())
    for values in (logits, gradient):
        digest.update(b"none" if values is None else values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
