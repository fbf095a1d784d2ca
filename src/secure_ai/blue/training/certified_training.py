"""Certified training: the loss of the worst logits that bounds allow, by intervals or by CROWN-IBP."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from secure_ai.blue.certify.crown import crown_margins
from secure_ai.blue.certify.interval import margins
from secure_ai.blue.certify.layers import layers_of
from secure_ai.blue.training.methods import Batch, BatchLoss, Method
from secure_ai.blue.training.schedules import Schedule
from secure_ai.core.errors import UsageError


def interval_bounds(eps: Schedule, natural_weight: Schedule, crown_weight: Schedule | None = None) -> Method:
    """The loss kappa CE(x) + (1 - kappa) CE(worst logits of the linf ball) (IBP, 1810.12715, eq. 12).

    `correct` counts the clean predictions.

    Args:
        eps: of the box, cut to [0, 1]; it has to grow slowly from 0.
        natural_weight: kappa.
        crown_weight: of the bounds of CROWN-IBP in the worst logits, beta of 1906.06316, eq. 9; None: 0.
    """

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        here, kappa = eps(batch.step, batch.steps), natural_weight(batch.step, batch.steps)
        beta = crown_weight(batch.step, batch.steps) if crown_weight else 0.0
        layers = layers_of(network)
        box = (batch.x - here).clamp(0, 1), (batch.x + here).clamp(0, 1)
        if beta:
            by_intervals, by_crown = crown_margins(layers, box, batch.y, clean=batch.x)
            worst = -((1 - beta) * by_intervals + beta * by_crown)
        else:
            worst = -margins(layers, box, batch.y, clean=batch.x)
        with torch.no_grad() if kappa == 0 else torch.enable_grad():
            logits = network(batch.x).float()
        loss = kappa * functional.cross_entropy(logits, batch.y)
        loss = loss + (1 - kappa) * functional.cross_entropy(worst.float(), batch.y)
        return BatchLoss(loss, (logits.detach().argmax(dim=1) == batch.y).sum(), len(batch.y))

    return method


@torch.no_grad()
def interval_initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Weights N(0, 2 pi / fan-in^2) and zero biases (Shi et al., 2103.17268, section 3.2): boxes keep their size.

    Batch normalisation begins afresh, too: nothing of an earlier training is left.

    Raises:
        UsageError: a frozen layer, whose weights would be lost.
    """
    frozen = [name.rpartition(".")[0] for name, weight in network.named_parameters() if not weight.requires_grad]
    if frozen:
        raise UsageError(
            "a frozen layer would lose its weights: training by bounds starts from fresh ones", where=frozen[0],
            expected="parameters that require gradients", got="requires_grad=False", hint="--method pgd keeps it",
        )  # fmt: skip
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            drawn = torch.empty_like(layer.weight, device="cpu")
            layer.weight.copy_(drawn.normal_(0, math.sqrt(2 * math.pi) / fan_in, generator=generator))
            if layer.bias is not None:
                layer.bias.zero_()
