"""HopSkipJump query by query: each must be what 1904.02144, algorithm 2, makes of the outcomes before it.

The reference draws its directions from the same stream; outcomes are the network's on the recorded queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from secure_ai.core.budget import Norm

SIZE = 25  # values of an image
SEED = 5  # of the attack's stream, as `run` has it


class Reference:
    """The attack on one sample, following what was queried; until the queries end."""

    def __init__(self, target: Any, x: Tensor, norm: Norm, first: int) -> None:
        self.queries: Iterator[Tensor] = iter([batch[0] for batch in target.seen])
        self.target, self.x, self.norm, self.first = target, x, norm, first

    def succeeds(self, expected: Tensor) -> bool:
        seen = next(self.queries)
        torch.testing.assert_close(seen, expected, atol=1e-4, rtol=0)
        return int(self.target.network(seen[None]).argmax()) != 0

    def away(self, point: Tensor) -> float:
        delta = point - self.x
        return float(delta.norm() if self.norm == "l2" else delta.abs().max())

    def between(self, point: Tensor, fraction: float, norm: Norm) -> Tensor:
        delta = point - self.x
        reach = fraction * float(delta.abs().max())
        return self.x + (fraction * delta if norm == "l2" else delta.clamp(-reach, reach))

    def bisect(self, point: Tensor, norm: Norm, halvings: int) -> Tensor:
        """Algorithm 1: the end that stays a success."""
        low, high = 0.0, 1.0
        for _ in range(halvings):
            middle = (low + high) / 2
            low, high = (low, middle) if self.succeeds(self.between(point, middle, norm)) else (middle, high)
        return self.between(point, high, norm)

    def start(self, images: Tensor) -> Tensor:
        """From the three nearest images of other classes: ten halvings each, the nearest end."""
        ends = []
        for image in sorted(images, key=lambda image: float((image - self.x).norm()))[:3]:
            assert self.succeeds(image)
            ends.append(self.bisect(image, "l2", 10))
        return min(ends, key=self.away)

    def gradient(self, point: Tensor, radius: float, queries: int, draw: Callable[[], Tensor]) -> tuple[Tensor, float]:
        """Equation 16, with its baseline; the mean outcome beside it."""
        directions, outcomes = [], []
        for _ in range(queries):
            noise = draw()
            directions.append(noise / noise.norm())
            outcomes.append(1.0 if self.succeeds(point + radius * directions[-1]) else -1.0)
        mean = sum(outcomes) / queries
        baseline = 0.0 if abs(mean) == 1 else mean
        pairs = zip(outcomes, directions, strict=True)
        estimate = torch.stack([(outcome - baseline) * u for outcome, u in pairs]).sum(dim=0)
        return (estimate / estimate.norm() if self.norm == "l2" else estimate.sign()), mean

    def jump(self, point: Tensor, direction: Tensor, length: float) -> Tensor:
        while not self.succeeds((point + length * direction).clamp(0, 1)):
            length /= 2
        return (point + length * direction).clamp(0, 1)

    def follow(self, point: Tensor, draw: Callable[[], Tensor]) -> list[float]:
        """From the start to the last query; the mean outcome of each estimate."""
        means: list[float] = []
        halvings = math.ceil((1.5 if self.norm == "l2" else 2) * math.log2(SIZE))  # section IV-D: to d^-1.5 or d^-2
        try:
            while True:
                point = self.bisect(point, self.norm, halvings)
                iteration, away = len(means) + 1, self.away(point)
                radius = 0.1 if iteration == 1 else away / SIZE  # section IV-C
                direction, mean = self.gradient(point, radius, int(self.first * math.sqrt(iteration)), draw)
                means.append(mean)
                point = self.jump(point, direction, away / math.sqrt(iteration))
        except StopIteration:
            return means


@pytest.mark.parametrize("first", [6, 1], ids=["six queries first", "one: often all fail"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_every_query_is_the_papers(norm: Norm, first: int, recorder_of: Callable[..., Any], run: Any) -> None:
    target = recorder_of(0.3)
    x = 0.2 + 0.6 * torch.rand((30, 1, 5, 5), generator=torch.Generator().manual_seed(4))
    y = target.network(x).argmax(dim=1)
    index = int((y == 0).nonzero()[0])
    active = torch.arange(30) == index
    x_adv = run(
        "hopskipjump", target, x, y, norm, 0.01, active=active, seed=SEED,
        query_budget=250, initial_gradient_queries=first,
    )[index]  # fmt: skip
    stream = torch.Generator().manual_seed(SEED)
    _, directions = (torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=stream))) for _ in range(2))

    def draw() -> Tensor:
        shard = 2 * torch.rand(x.shape, generator=directions) - 1 if norm == "linf" else None
        return (torch.randn(x.shape, generator=directions) if shard is None else shard)[index]

    reference = Reference(target, x[index], norm, first)
    means = reference.follow(reference.start(x[y != 0]), draw)
    assert len(means) >= 5
    assert any(0.2 < abs(mean) < 1 for mean in means) if first == 6 else -1 in means  # what each is here to show
    found = [batch[0] for batch in target.seen if int(target.network(batch).argmax()) != 0]
    assert torch.equal(x_adv, min(found, key=reference.away))
