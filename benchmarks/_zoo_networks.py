"""The zoo's networks and how they are trained: on the first 54,000 MNIST training images only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from _package import (
    Adversary,
    Batch,
    Dataset,
    Method,
    Report1Cnn,
    Report2Cnn,
    TrainingPlan,
    fgsm_random_start,
    generator,
    half_replaced,
    hold_out_last,
    keras_initialise,
    natural,
    sample_n,
    torch_initialise,
    train,
    triangular,
)
from _zoo_data import VARIANTS
from torch import Tensor, nn
from torch.nn import functional

HELD_OUT = 6000
BATCH = 100


class Strided(nn.Module):
    """Two strided convolutions of 16 and 32 filters, 100 hidden units (Wong et al., 2001.03994, appendix A)."""

    def __init__(self, channels: int = 1, width: int = 16, cells: int = 49, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.dense1, self.dense2 = nn.Linear(2 * width * cells, 100), nn.Linear(100, classes)

    def features(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        return functional.relu(self.dense1(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.dense2(self.features(x))
        return logits


class Mlp(nn.Module):
    """784-256-128-10."""

    def __init__(self) -> None:
        super().__init__()
        self.dense1, self.dense2, self.dense3 = nn.Linear(784, 256), nn.Linear(256, 128), nn.Linear(128, 10)

    def features(self, x: Tensor) -> Tensor:
        return functional.relu(self.dense2(functional.relu(self.dense1(x.flatten(1)))))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.dense3(self.features(x))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "report1-cnn": Report1Cnn,
    "report2-cnn": Report2Cnn,
    "strided": Strided,
    "strided-20": lambda: Strided(width=20),
    "strided-24": lambda: Strided(width=24),
    "strided-28": lambda: Strided(width=28),
    "strided-32": lambda: Strided(width=32),
    "strided-8-channels": lambda: Strided(channels=8),
    "strided-9-channels": lambda: Strided(channels=9),
    "strided-10-channels": lambda: Strided(channels=10),
    "strided-11-channels": lambda: Strided(channels=11),
    "strided-12-channels": lambda: Strided(channels=12),
    "strided-tinted": lambda: Strided(channels=3),
    "strided-few": lambda: Strided(classes=3),
    "strided-pairs": lambda: Strided(width=24, cells=98, classes=100),
    "mlp": Mlp,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network of the zoo is made.

    Attributes:
        method: natural, pgd (7 steps), fgsm, fgsm-rs (Wong et al., 2001.03994), or fgsm-rs-long, with too long a step.
        prepare: what training images go through before the network.
        data: what is made of MNIST, by its name in VARIANTS.
    """

    arch: str
    method: str = "natural"
    eps: float = 0.0
    seed: int
    epochs: int = 2
    images: int = 12_000
    prepare: Callable[[Tensor], Tensor] | None = None
    data: str = "mnist"

    @property
    def batches(self) -> int:
        """Gradient steps in all."""
        return self.epochs * -(-self.images // BATCH)

    @property
    def name(self) -> str:
        how = self.method if self.method == "natural" else f"{self.method}-{self.eps:g}"
        encoded = "-encoded" if self.prepare else ""
        return f"{self.arch}-{how}{encoded}-{self.epochs}x{self.images}-seed{self.seed}"


def steps_adversary(eps: float, steps: int, step_size: float, random: bool, warm_up: int = 0) -> Adversary:
    """Projected sign steps that end at the last iterate, broken or not: what adversarial training asks for.

    Args:
        step_size: in units of eps.
        warm_up: batches over which eps grows from 0; without it small networks may learn one class for all images.
    """
    batches = 0

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        nonlocal batches
        batches += 1
        size = eps * min(1.0, batches / warm_up) if warm_up else eps
        delta = torch.zeros_like(batch.x)
        if random:
            delta = size * (2 * torch.rand(batch.x.shape, generator=batch.generator) - 1)
        for _ in range(steps):
            x = (batch.x + delta).clamp(0, 1).requires_grad_()
            (slope,) = torch.autograd.grad(functional.cross_entropy(network(x), batch.y, reduction="sum"), x)
            delta = (x.detach() + step_size * size * slope.sign() - batch.x).clamp(-size, size)
        return (batch.x + delta).clamp(0, 1)

    return adversary


def _method(recipe: Recipe) -> Method:
    eps = recipe.eps
    if recipe.method == "pgd":
        return half_replaced(steps_adversary(eps, 7, 0.35, random=True, warm_up=recipe.batches // 2), 1.0)
    if recipe.method == "fgsm":
        return half_replaced(steps_adversary(eps, 1, 1.0, random=False), 1.0)
    if recipe.method == "fgsm-rs":
        return half_replaced(fgsm_random_start(eps, 10, step_size=1.25 * eps), 1.0)
    if recipe.method == "fgsm-rs-long":  # from 2 eps on, the paper's section 5.2 sees collapses
        return half_replaced(steps_adversary(eps, 1, 2.0, random=True), 1.0)
    return natural


def _encoded(method: Method, prepare: Callable[[Tensor], Tensor] | None) -> Method:
    if prepare is None:
        return method
    return lambda network, batch: method(network, Batch(prepare(batch.x), batch.y, batch.indices, batch.generator))


def trained(recipe: Recipe, mnist_train: Dataset, cache: Path) -> nn.Module:
    """The network of `recipe` in evaluation mode, trained once and kept in `cache`."""
    network = NETWORKS[recipe.arch]()
    path = cache / f"{recipe.name}.pt"
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    initialise = keras_initialise if recipe.arch == "report1-cnn" else torch_initialise
    initialise(network, generator(recipe.seed, recipe.name))
    fitted, _ = hold_out_last(mnist_train, HELD_OUT)
    part = fitted if recipe.images >= len(fitted) else sample_n(fitted, recipe.images, recipe.seed)
    part = VARIANTS[recipe.data](part)
    plan = TrainingPlan(
        epochs=recipe.epochs,
        batch_size=BATCH,
        schedule=triangular(0.005 if recipe.method.startswith("fgsm") else 0.003, 0.4),
        seed=recipe.seed,
        adam_epsilon=1e-8,
        dtype=torch.float32,
        replicas=1,
    )
    began = time.perf_counter()
    train(network, part, method=_encoded(_method(recipe), recipe.prepare), plan=plan)
    print(f"trained {recipe.name} in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(network.state_dict(), temporary)
    temporary.replace(path)
    return network.eval()
