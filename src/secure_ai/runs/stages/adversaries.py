"""Attacks as training methods want them: where red is handed to blue."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secure_ai.blue.training.methods import Adversary, Batch
from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target import Target
from secure_ai.red.evasion.gradient import fgsm


def fgsm_on_the_fly(eps: float, classes: int) -> Adversary:
    """An adversary that attacks the network as it stands, in its training mode, true labels given."""
    budget = PerturbationBudget("linf", eps)

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        _, channels, height, width = batch.x.shape
        target = Target(
            network,
            name="network in training",
            digest="",
            input_shape=(channels, height, width),
            num_classes=classes,
            search_dtype=torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32,
        )
        parameters = [p for p in network.parameters() if p.requires_grad]
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            with target.searching():
                return fgsm(target, batch.x, batch.y, budget=budget, generator=batch.generator)
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)

    return adversary
