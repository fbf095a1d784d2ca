"""Models whose nearest adversarial examples are known, for the reference-grade attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.math.projections import distance
from secure_ai.red.evasion.suite.catalogue import entry_named

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Oracle:
    """A linear model of K classes with the exact minimum distance of every image, [0, 1] taken into account."""

    target: NetworkTarget
    x: Tensor
    y: Tensor
    weight: Array
    bias: Array

    def optimum(self, norm: Norm) -> Tensor:
        """(N,) smallest distance to any other class."""
        return torch.tensor([self._nearest(i, norm) for i in range(len(self.x))])

    def _nearest(self, index: int, norm: Norm) -> float:
        image, label = self.x[index].flatten().double().numpy(), int(self.y[index])
        others = [k for k in range(len(self.bias)) if k != label]
        return min(self._to_class(image, label, other, norm) for other in others)

    def _to_class(self, image: Array, label: int, other: int, norm: Norm) -> float:
        direction = self.weight[other] - self.weight[label]
        gap = -(direction @ image + self.bias[other] - self.bias[label])
        size, room = np.abs(direction), np.where(direction > 0, 1 - image, image)
        if (size * room).sum() <= gap:
            return np.inf
        if norm in ("l1", "l0"):
            return _one_by_one(size, room, gap, norm)
        low, high = 0.0, 1e3
        for _ in range(60):
            middle = (low + high) / 2
            moved = np.minimum(room, middle if norm == "linf" else middle * size)
            low, high = (low, middle) if size @ moved >= gap else (middle, high)
        moved = np.minimum(room, high if norm == "linf" else high * size)
        return float(moved.max() if norm == "linf" else np.linalg.norm(moved))


def _one_by_one(size: Array, room: Array, gap: float, norm: Norm) -> float:
    total = 0.0
    for index in np.argsort(-(size if norm == "l1" else size * room)):
        gain = size[index] * room[index]
        if gain >= gap:
            return total + (gap / size[index] if norm == "l1" else 1.0)
        gap -= gain
        total += room[index] if norm == "l1" else 1.0
    return np.inf


def make_oracle(classes: int = 5, n: int = 10, seed: int = 0) -> Oracle:
    """Images in [0.3, 0.7] of 8 x 8 values, none nearer than 0.015 (linf) to the boundary."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn((classes, 64), generator=draw)
    layer = nn.Linear(64, classes)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(-weight.sum(dim=1) / 2)
    x = 0.3 + 0.4 * torch.rand((16 * n, 1, 8, 8), generator=draw)
    network = nn.Sequential(nn.Flatten(), layer)
    target = NetworkTarget(network, name="linear", digest="d" * 64, input_shape=(1, 8, 8), num_classes=classes)
    y = target.predict(x)
    bias = layer.bias.detach().double().numpy()
    oracle = Oracle(target, x, y, weight.double().numpy(), bias)
    far = (oracle.optimum("linf") > 0.015).nonzero().squeeze(1)[:n]
    assert len(far) == n
    return Oracle(target, x[far], y[far], weight.double().numpy(), bias)


class Stubborn(nn.Module):
    """Answers class 0 whatever the image, with gradients that look usable."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn((classes, size), generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        logits = x.flatten(1) @ self.weight.T
        return logits + 1000 * nn.functional.one_hot(torch.zeros(len(x), dtype=torch.int64), logits.shape[1])


class NoGradient(nn.Module):
    """A model whose graph is cut; its answer depends on the image all the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.network(x.detach())
        return answer.detach()


class Recorder(NetworkTarget):
    """A target that keeps every batch it is given: what an attack evaluates, step by step.

    Said to be random, so that Square queries every window.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(
            network, name="r", digest="d" * 64, input_shape=shape, num_classes=classes, deterministic=False
        )
        self.seen: list[Tensor] = []

    def logits(self, x: Tensor, *, rows: Tensor | None = None) -> Tensor:
        self.seen.append(x.detach().clone())
        return super().logits(x, rows=rows)

    def loss(self, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Losses (N,) and their input gradients (N, C, H, W), by autograd alone and without a record."""
        with torch.enable_grad():
            point = x.clone().requires_grad_()
            values = loss(self.network(point), y)
            (gradient,) = torch.autograd.grad(values.sum(), point)
        return values.detach(), gradient


def make_recorder(lead: float, shape: tuple[int, int, int] = (1, 5, 5), classes: int = 4, seed: int = 0) -> Recorder:
    """A piecewise-linear network (one hidden layer of ReLU); class 0 leads by about `lead`."""
    draw = torch.Generator().manual_seed(seed)
    size = shape[0] * shape[1] * shape[2]
    hidden, last = nn.Linear(size, 24), nn.Linear(24, classes)
    with torch.no_grad():
        hidden.weight.copy_(torch.randn((24, size), generator=draw))
        hidden.bias.copy_(-hidden.weight.sum(dim=1) / 2)
        last.weight.copy_(0.1 * torch.randn((classes, 24), generator=draw))
        last.bias.copy_(lead * torch.eye(classes)[0])
    return Recorder(nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), last), shape, classes)


Run = Callable[..., Tensor]


def run_attack(
    name: str,
    target: NetworkTarget,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    eps: float,
    *,
    seed: int = 5,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    """As the harness calls it, with the contract checked: shape, range, the inactive, and for budget attacks eps."""
    entry = entry_named(name)
    assert entry is not None
    target.passes.forward = target.passes.backward = 0
    before = x.clone()
    with target.attacked():
        state = torch.get_rng_state()
        x_adv = entry.attack(
            target,
            x,
            y,
            budget=PerturbationBudget(norm, eps),
            generator=torch.Generator().manual_seed(seed),
            target_label=target_label,
            active=active,
            **{**entry.settings, **settings},
        )
        assert torch.equal(torch.get_rng_state(), state)  # inside: a target puts the process's state back
    assert torch.equal(x, before)
    assert torch.is_grad_enabled()
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    if active is not None:
        assert torch.equal(x_adv[~active], x[~active])
    if entry.kind == "budget":
        assert float(distance(x_adv, x, norm).max()) <= eps * (1 + 1e-5) + 1e-6
    return x_adv


@pytest.fixture(scope="session")
def run() -> Run:
    return run_attack


@pytest.fixture(scope="session")
def recorder_of() -> Callable[..., Recorder]:
    return make_recorder


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return make_oracle()


@pytest.fixture(scope="session")
def two() -> Oracle:
    """The same with 2 classes: one boundary, so that every attack looks for the same optimum."""
    return make_oracle(2)


@pytest.fixture(scope="session")
def oracle_of() -> Callable[..., Oracle]:
    return make_oracle


@pytest.fixture
def stubborn() -> Callable[[int], NetworkTarget]:
    """A target of K classes on 6 x 6 images that no attack breaks; said to be random: Square then asks every time."""

    def build(classes: int) -> NetworkTarget:
        return NetworkTarget(
            Stubborn(classes, 36),
            name="stubborn",
            digest="d" * 64,
            input_shape=(1, 6, 6),
            num_classes=classes,
            deterministic=False,
        )

    return build


@pytest.fixture
def cut(oracle: Oracle) -> NetworkTarget:
    """The linear model without gradients."""
    network = NoGradient(oracle.target.network)
    return NetworkTarget(network, name="cut", digest="d" * 64, input_shape=(1, 8, 8), num_classes=len(oracle.bias))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
