"""Clean control networks: the same architecture, trained from scratch, with recipes that vary as users' do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Batch, BatchLoss, cross_entropy_loss, natural
from secure_ai.blue.training.schedules import constant, triangular
from secure_ai.core.compute import CPU
from secure_ai.core.seeds import derive_seed, generator, uniform
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import random_order

RECIPES = 4  # counts up when `recipe`, or what a value means, changes: control networks of before are made again
LEAST_IMAGES = 200
MOST_SHIFTED = 2  # pixels each way


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRecipe:
    """How one control network is trained.

    Attributes:
        images: how many of the training images, a random part.
        peaked: triangular learning rate instead of a constant one.
        moved: images are shifted by up to MOST_SHIFTED pixels while it learns.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    images: int
    peaked: bool
    moved: bool


def recipe(index: int, seed: int, n: int, largest: int) -> ControlRecipe:
    """The recipe of control network `index`.

    Args:
        n: training images there are.
        largest: at most so many are used.
    """
    draws = uniform((6,), generator(seed, "control-recipe", index), CPU).tolist()
    images = min(n, largest)
    return ControlRecipe(
        epochs=2 + int(4 * draws[0]),
        batch_size=(64, 128, 256)[int(3 * draws[1])],
        learning_rate=5e-4 * 4 ** draws[2],
        images=max(min(images, LEAST_IMAGES), round(images * (0.5 + 0.5 * draws[3]))),
        peaked=draws[4] < 0.5,
        moved=draws[5] < 0.25,
    )


def shifted(x: Tensor, offsets: Tensor) -> Tensor:
    """Images moved by whole pixels, black at the edges.

    Args:
        x: (N, C, H, W).
        offsets: (N, 2) int64, rows and columns, each at most MOST_SHIFTED either way.
    """
    height, width = x.shape[2:]
    padded = functional.pad(x, [MOST_SHIFTED] * 4)
    rows = (torch.arange(height, device=x.device) + MOST_SHIFTED)[None, :] - offsets[:, :1]
    columns = (torch.arange(width, device=x.device) + MOST_SHIFTED)[None, :] - offsets[:, 1:]
    one = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[one, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _moved(network: nn.Module, batch: Batch) -> BatchLoss:
    """Training on images that are shifted at random."""
    draws = torch.randint(-MOST_SHIFTED, MOST_SHIFTED + 1, (len(batch.x), 2), generator=batch.generator, device="cpu")
    return cross_entropy_loss(network, shifted(batch.x, draws.to(batch.x.device)), batch.y)


def control_network(
    build: Callable[[torch.Generator], nn.Module],
    dataset: Dataset,
    index: int,
    seed: int,
    *,
    largest: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
) -> nn.Module:
    """Clean control network `index` in evaluation mode.

    Args:
        build: a network with random weights from the generator.
        dataset: training images; they are taken to be clean.
        largest: most images of them that are used.
        device: where it is trained, and stays.
    """
    own = recipe(index, seed, len(dataset), largest)
    network = build(generator(seed, "control-network", index)).to(device)
    chosen = random_order(len(dataset), seed, "control-images", index)[: own.images]
    plan = TrainingPlan(
        epochs=own.epochs,
        batch_size=own.batch_size,
        schedule=(triangular if own.peaked else constant)(own.learning_rate),
        seed=derive_seed(seed, "control-training", index),
        adam_epsilon=1e-8,
        dtype=dtype,
        replicas=1,
    )
    method = _moved if own.moved else natural
    train(network, dataset.select(chosen, f"{own.images} random images"), method=method, plan=plan)
    return network.eval()
