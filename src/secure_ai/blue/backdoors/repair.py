"""What a remover of backdoors is given, and plain fine-tuning, which every other one builds on or has to beat."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.backdoors.inversion import Inverted
from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Method, natural
from secure_ai.blue.training.schedules import constant
from secure_ai.core.compute import device_of, exact_kernels
from secure_ai.core.seeds import derive_seed, generator, kept_random_state, seed_networks
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float

EPOCHS, BATCH, LEARNING_RATE = 5, 64, 5e-4

Stamp = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Reconstructed:
    """The trigger that a scan found: one search of an inversion.

    Attributes:
        source, label: what it turns into what; the source is EVERY where it works on all other classes.
    """

    inverted: Inverted
    search: int
    source: int
    label: int

    def stamp(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W), uint8 or float32, with it: float32 in [0, 1]."""
        return self.inverted.stamp(images, self.search)


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """What a remover is given.

    Attributes:
        target: the suspected network; it is left as it is.
        clean: at most a few thousand images with true labels.
        trigger: None where the scan found none.
    """

    target: NetworkTarget
    clean: Dataset
    trigger: Reconstructed | None
    seed: int

    @property
    def network(self) -> nn.Module:
        """The suspected one."""
        return self.target.network


def trainable(network: nn.Module) -> nn.Module:
    """A copy whose weights all learn."""
    own = copy.deepcopy(network)
    for parameter in own.parameters():
        parameter.requires_grad_(True)
    return own


@contextmanager
def seeded(target: NetworkTarget, *stream: object) -> Iterator[None]:
    """Inside, dropout draws from a seed of `stream` and a GPU computes the same twice; the random state is put back."""
    with kept_random_state(target.device), exact_kernels(target.device):
        seed_networks(derive_seed(*stream), target.device)
        yield


def batches(repair: Repair, stream: str, epochs: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Clean images (B, C, H, W) and labels (B,) on the network's device, in another order each epoch."""
    device = device_of(repair.network)
    images = images_to_float(repair.clean.images).to(device)
    labels = torch.from_numpy(np.array(repair.clean.labels)).to(device)
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=generator(repair.seed, stream, epoch), device="cpu").to(device)
        for part in order.split(size):
            yield images[part], labels[part]


def tuned(network: nn.Module, data: Dataset, method: Method, seed: int, epochs: int = EPOCHS) -> nn.Module:
    """The network trained on, in place, in evaluation mode after."""
    plan = TrainingPlan(
        epochs=epochs, batch_size=BATCH, schedule=constant(LEARNING_RATE), seed=seed, adam_epsilon=1e-8,
        dtype=torch.float32, replicas=1,
    )  # fmt: skip
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    train(network, data, method=method, plan=plan)
    return network.eval()


def fine_tune(repair: Repair) -> nn.Module:
    """Training on the clean images alone: what every other remover has to beat."""
    return tuned(copy.deepcopy(repair.network), repair.clean, natural, repair.seed)
