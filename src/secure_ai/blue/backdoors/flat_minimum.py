"""FT-SAM: fine-tuning that looks for a flat minimum of the loss, which a backdoor's few large weights are not in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.backdoors.repair import Repair, trainable
from secure_ai.core.compute import device_of
from secure_ai.core.seeds import generator
from secure_ai.models.tensors import images_to_float

EPOCHS, BATCH, LEARNING_RATE = 20, 128, 0.01
RADIUS = 1.0  # the paper's 2 is for networks of millions of weights
MOMENTUM, DECAY, SMOOTHING = 0.9, 5e-4, 0.1


def flat_minimum(repair: Repair) -> nn.Module:
    """Adaptive sharpness-aware fine-tuning on the clean images (Zhu et al., 2304.11823, section 3.2)."""
    network, device = trainable(repair.network), device_of(repair.network)
    network.train()
    images = images_to_float(repair.clean.images).to(device)
    labels = torch.from_numpy(np.array(repair.clean.labels)).to(device)
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=DECAY)
    parts = math.ceil(len(labels) / BATCH)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(labels), generator=generator(repair.seed, "ft-sam", epoch), device="cpu").to(device)
        for number, part in enumerate(order.split(BATCH)):
            for group in optimizer.param_groups:
                progress = (epoch * parts + number) / (EPOCHS * parts)
                group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * progress))
            _backward(network, images[part], labels[part])
            moves = uphill(parameters, RADIUS)
            _moved(parameters, moves, 1)
            _backward(network, images[part], labels[part])
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
