"""Attacks as training methods want them: where red is handed to blue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from secure_ai.blue.training.methods import Adversary, Batch
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.seeds import uniform
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.pgd import fgsm, pgd
from secure_ai.red.evasion.math import projections
from secure_ai.red.evasion.math.input_gradient import input_gradient, requiring_grad
from secure_ai.red.evasion.math.losses import cross_entropy


def fgsm_on_the_fly(eps: float, classes: int) -> Adversary:
    """An adversary that attacks the network as it stands, in its training mode, true labels given."""
    budget = PerturbationBudget("linf", eps)

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        with _attackable(network, batch, classes) as target:
            return fgsm(target, batch.x, batch.y, budget=budget, generator=batch.generator)

    return adversary


def fgsm_random_start(eps: float, classes: int, step_size: float) -> Adversary:
    """FGSM-RS (Wong, Rice and Kolter, 2001.03994, algorithm 3): one step from a random point of the ball.

    The start may leave [0, 1], as in the algorithm: clipped, half of all starts on a black pixel would be the pixel.
    """
    budget = PerturbationBudget("linf", eps)

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        start = requiring_grad(batch.x + (2 * uniform(batch.x.shape, batch.generator, batch.x.device) - 1) * eps)
        with _attackable(network, batch, classes) as target:
            gradient = input_gradient(cross_entropy(target.logits(start), batch.y), start)
        step = step_size * projections.steepest(gradient, budget.norm)
        return projections.project(start.detach() + step, batch.x, budget)

    return adversary


def pgd_on_the_fly(eps: float, classes: int, steps: int) -> Adversary:
    """Madry et al. (1706.06083): PGD on the network as it stands.

    Note: a sample stops where it is first misclassified, a weaker adversary than theirs, which takes every step.
    """
    budget = PerturbationBudget("linf", eps)

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        with _attackable(network, batch, classes) as target:
            return pgd(target, batch.x, batch.y, budget=budget, generator=batch.generator, steps=steps)

    return adversary


@contextlib.contextmanager
def _attackable(network: nn.Module, batch: Batch, classes: int) -> Iterator[NetworkTarget]:
    """The network in training as a target: parameters frozen, its mode and the precision of the training kept."""
    _, channels, height, width = batch.x.shape
    target = NetworkTarget(
        network,
        name="network in training",
        digest="",
        input_shape=(channels, height, width),
        num_classes=classes,
    )
    parameters = [p for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield target
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
