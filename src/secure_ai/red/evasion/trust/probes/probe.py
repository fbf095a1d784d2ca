"""What every probe is given: a few images on which the network is right, and gradients taken without any repair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.seeds import derive_seed, generator, seed_networks
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.red.evasion.math.losses import Loss
from secure_ai.red.evasion.suite.verify import checked_logits

SAMPLES = 128  # images drawn; shares of them are resolved to about 4 points, enough for the thresholds of the checks


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """N images drawn at random, and the network's answer to them.

    Attributes:
        target: inside `attacked()`.
        x: (N, C, H, W) float32 in [0, 1].
        y: (N,) int64 true labels.
        logits: (N, K) float32.
        correct: (N,) bool.
    """

    target: NetworkTarget
    x: Tensor
    y: Tensor
    logits: Tensor
    correct: Tensor
    budget: PerturbationBudget
    seed: int

    def right(self, most: int = SAMPLES) -> tuple[Tensor, Tensor]:
        """Images and labels of at most `most` samples on which the network is right."""
        rows = self.correct.nonzero().squeeze(1)[:most]
        return self.x[rows], self.y[rows]

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of its own for each purpose."""
        return generator(self.seed, "diagnosis", purpose)


def drawn(
    target: NetworkTarget, x: np.ndarray | Tensor, y: np.ndarray | Tensor, budget: PerturbationBudget, seed: int
) -> Probe:
    """A probe of at most SAMPLES of the images, drawn without replacement; one forward pass each."""
    labels = labels_to_tensor(y)
    chosen = torch.randperm(len(labels), generator=generator(seed, "diagnosis", "sample"), device="cpu")
    chosen = chosen[:SAMPLES].sort().values
    images = images_to_float(x[chosen.numpy()] if isinstance(x, np.ndarray) else x[chosen]).to(target.device)
    labels = labels[chosen].to(target.device)
    seed_networks(derive_seed(seed, "diagnosis", "network"), target.device)
    logits = checked_logits(target, images)
    return Probe(target, images, labels, logits, logits.argmax(dim=1) == labels, budget, seed)


def drawn_among(
    probe: Probe, x: np.ndarray | Tensor, y: np.ndarray | Tensor, among: np.ndarray, most: int
) -> tuple[Tensor, Tensor]:
    """Images and labels of at most `most` samples, drawn at random `among` (N,) bool, e.g. those that a suite left."""
    rows = np.flatnonzero(among)
    order = torch.randperm(len(rows), generator=probe.generator("survivors"), device="cpu")[:most]
    chosen = rows[np.sort(order.numpy())]
    images, labels = images_to_float(x[chosen]), labels_to_tensor(y)[torch.from_numpy(chosen)]
    return images.to(probe.target.device), labels.to(probe.target.device)


def raw_gradient(target: NetworkTarget, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K), losses (N,) and the gradient (N, C, H, W) of their sum as autograd gives it: NaN stays NaN.

    Zero where the graph is cut on the way. One forward and one backward pass a sample.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        logits = target.logits(point)
        values = loss(logits, y)
        gradient = torch.zeros_like(x)
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(values.sum(), point, allow_unused=True, materialize_grads=True)
    return logits.detach(), values.detach(), gradient


def all_zero(gradient: Tensor) -> Tensor:
    """(N,) bool: every entry is exactly 0."""
    return (gradient.flatten(1) == 0).all(dim=1)


def not_finite(gradient: Tensor) -> Tensor:
    """(N,) bool: some entry is NaN or infinite."""
    return ~torch.isfinite(gradient).flatten(1).all(dim=1)
