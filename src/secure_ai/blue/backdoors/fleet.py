"""Clean control networks: the same architecture, trained from scratch, with recipes that vary as users' do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import natural
from secure_ai.blue.training.schedules import constant, triangular
from secure_ai.core.compute import CPU
from secure_ai.core.seeds import derive_seed, generator, uniform
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import random_order

RECIPES = 2  # counts up when `recipe` changes: control networks of before are then trained again
LEAST_IMAGES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRecipe:
    """How one control network is trained.

    Attributes:
        images: how many of the training images, a random part.
        peaked: triangular learning rate instead of a constant one.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    images: int
    peaked: bool


def recipe(index: int, seed: int, n: int, largest: int) -> ControlRecipe:
    """The recipe of control network `index`.

    Args:
        n: training images there are.
        largest: at most so many are used.
    """
    draws = uniform((5,), generator(seed, "control-recipe", index), CPU).tolist()
    images = min(n, largest)
    return ControlRecipe(
        epochs=2 + int(3 * draws[0]),
        batch_size=(64, 128, 256)[int(3 * draws[1])],
        learning_rate=5e-4 * 4 ** draws[2],
        images=max(min(images, LEAST_IMAGES), round(images * (0.7 + 0.3 * draws[3]))),
        peaked=draws[4] < 0.5,
    )


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
    train(network, dataset.select(chosen, f"{own.images} random images"), method=natural, plan=plan)
    return network.eval()
