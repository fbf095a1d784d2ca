"""Methods: each makes the loss of one batch. The attack that hardens a network is passed in as an argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One batch of training data.

    Attributes:
        x: (B, C, H, W) float32 in [0, 1].
        y: (B,) int64.
        indices: (B,) int64 positions in the training set.
        generator: the batch's own source of randomness.
        step, steps: this step, counted from 0, and how many there are in all: what schedules are functions of.
        epoch: passes over the training data before this step, as a fraction.
    """

    x: Tensor
    y: Tensor
    indices: Tensor
    generator: torch.Generator
    step: int = field(default=0, kw_only=True)
    steps: int = field(default=1, kw_only=True)
    epoch: float = field(default=0.0, kw_only=True)


class BatchLoss(NamedTuple):
    """The mean loss to minimise, and how many of `n` predictions were right."""

    loss: Tensor
    correct: Tensor
    n: int


Method = Callable[[nn.Module, Batch], BatchLoss]
Adversary = Callable[[nn.Module, Batch], Tensor]


def cross_entropy_loss(network: nn.Module, x: Tensor, y: Tensor) -> BatchLoss:
    """Mean cross-entropy of the network on (x, y)."""
    logits = network(x).float()
    return BatchLoss(functional.cross_entropy(logits, y), (logits.detach().argmax(dim=1) == y).sum(), len(y))


def natural(network: nn.Module, batch: Batch) -> BatchLoss:
    """Training on the data as it is."""
    return cross_entropy_loss(network, batch.x, batch.y)


def half_replaced(adversary: Adversary, ratio: float = 0.5) -> Method:
    """A random share of each batch is replaced by its adversarial examples, true labels kept (report 1).

    Args:
        adversary: makes x_adv for a batch.
        ratio: share replaced, rounded up to whole samples; of each part, where a batch is computed in parts.
    """

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        count = math.ceil(ratio * len(batch.y))
        chosen = torch.randperm(len(batch.y), generator=batch.generator, device="cpu")[:count]
        part = replace(batch, x=batch.x[chosen], y=batch.y[chosen], indices=batch.indices[chosen])
        x = batch.x.clone()
        x[chosen] = adversary(network, part)
        return cross_entropy_loss(network, x, batch.y)

    return method


def paired(adversary: Adversary) -> Method:
    """Every batch together with its adversarial examples, one to one, in one gradient step (report 2)."""

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        x = torch.cat([batch.x, adversary(network, batch)])
        return cross_entropy_loss(network, x, batch.y.repeat(2))

    return method
