"""FT-SAM: fine-tuning that looks for a flat minimum of the loss, which a backdoor's few large weights are not in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.backdoors.repair import Repair, batches, trainable

EPOCHS, BATCH, LEARNING_RATE = 20, 128, 0.01
RADIUS = 1.0  # the paper's 2 is for networks of millions of weights
MOMENTUM, DECAY, SMOOTHING = 0.9, 5e-4, 0.1


def flat_minimum(repair: Repair) -> nn.Module:
    """Adaptive sharpness-aware fine-tuning on the clean images (Zhu et al., 2304.11823, section 3.2)."""
    network = trainable(repair.network).train()
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=DECAY)
    steps = EPOCHS * math.ceil(len(repair.clean) / BATCH)
    for number, (x, y) in enumerate(batches(repair, "ft-sam", EPOCHS, BATCH)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * number / steps))
        _backward(network, x, y)
        moves = uphill(parameters, RADIUS)
        _moved(parameters, moves, 1)
        _backward(network, x, y)
        _moved(parameters, moves, -1)
        optimizer.step()
    return network.eval()


def _backward(network: nn.Module, x: Tensor, y: Tensor) -> None:
    network.zero_grad(set_to_none=True)
    functional.cross_entropy(network(x), y, label_smoothing=SMOOTHING).backward()


@torch.no_grad()
def uphill(parameters: Sequence[Tensor], radius: float) -> list[Tensor]:
    """To the worst weights nearby: radius w^2 g / norm of (|w| g), in proportion to each weight (2102.11600)."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    norm = torch.stack([(p.abs() * g).norm() for p, g in zip(parameters, gradients, strict=True)]).norm()
    return [radius * p.square() * g / norm.clamp_min(1e-12) for p, g in zip(parameters, gradients, strict=True)]


@torch.no_grad()
def _moved(parameters: Sequence[Tensor], moves: Sequence[Tensor], sign: int) -> None:
    for parameter, move in zip(parameters, moves, strict=True):
        parameter.add_(move, alpha=sign)
