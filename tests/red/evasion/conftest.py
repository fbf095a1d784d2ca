"""Models with known answers for the tests of attacks and of the harness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm
from secure_ai.models.target.target import NetworkTarget


@dataclass(frozen=True)
class Case:
    """A target with images it classifies correctly."""

    target: NetworkTarget
    x: Tensor
    y: Tensor


class Halves(nn.Module):
    """Two classes, told apart by the sign of w·x + b."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1) @ self.weight + self.bias
        return torch.stack([-score / 2, score / 2], dim=1)


def as_target(
    network: nn.Module, x: Tensor, num_classes: int, *, digest: str = "d" * 64, batch_size: int = 256, **settings: Any
) -> NetworkTarget:
    shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    return NetworkTarget(
        network,
        name="test",
        digest=digest,
        input_shape=shape,
        num_classes=num_classes,
        batch_size=batch_size,
        **settings,
    )


def make_linear_case(norm: Norm, optimum: float, n: int = 12) -> Case:
    """Every sample's closest adversarial example is exactly `optimum` away in `norm`, and [0, 1] is not in the way.

    The images are 0.5 plus something orthogonal to the weights, so all have the same score. For l0 `optimum` counts
    values: moved by 0.5 each, the largest `optimum` weights just reach the margin.
    """
    draw = torch.Generator().manual_seed(7)
    weight = torch.randn(64, generator=draw)
    largest = weight.abs().sort(descending=True).values
    margin = {
        "linf": optimum * float(largest.sum()),
        "l2": optimum * float(weight.norm()),
        "l1": optimum * float(largest[0]),
        "l0": 0.5 * float(largest[: int(optimum)].sum()) * 0.999,
    }[norm]
    offset = 0.05 * torch.randn((n, 64), generator=draw) * (norm != "l0")
    offset -= ((offset @ weight) / (weight @ weight))[:, None] * weight
    images = (0.5 + offset).view(n, 1, 8, 8)
    network = Halves(weight, margin - 0.5 * float(weight.sum()))
    return Case(as_target(network, images, 2), images, torch.ones(n, dtype=torch.int64))


def make_cnn_case(n: int = 96, *, scale: float = 1.0, **settings: Any) -> Case:
    """A fixed random convolutional network of 5 classes on 10 x 10 images, labelled by itself."""
    draw = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
        )
    # scaled on two images, all logits would be 0.7 or -0.7, and the processor's rounding would choose the label
    many = torch.rand((max(n, 12), 1, 10, 10), generator=draw)
    x, last = many[:n], network[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        spread = network(many).std(dim=0)
        last.weight.mul_(scale / spread[:, None])
        last.bias.copy_(-network(many).mean(dim=0) + last.bias)
        y = network(x).argmax(dim=1)
    return Case(as_target(network.eval(), x, 5, **settings), x, y)


@pytest.fixture(scope="session")
def linear_case() -> Callable[..., Case]:
    return make_linear_case


@pytest.fixture(scope="session")
def cnn_case() -> Callable[..., Case]:
    return make_cnn_case


@pytest.fixture(scope="session")
def target_of() -> Callable[..., NetworkTarget]:
    return as_target
