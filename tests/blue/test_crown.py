"""CROWN-IBP: exact where it must be, sound everywhere, tighter than intervals, and never above an attack."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.certify import crown, interval
from secure_ai.blue.certify.interval import Box, certified
from secure_ai.blue.certify.layers import Feed, layers_of
from secure_ai.blue.training.certified_training import interval_bounds
from secure_ai.blue.training.methods import Batch
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.seeds import generator
from secure_ai.models.target.transform import InputTransform
from secure_ai.runs.stages.adversaries import pgd_examples, still

by_crown = partial(certified, bound=crown.margins)


def randomised(network: nn.Module, seed: int, scale: float = 0.5) -> nn.Module:
    draws = generator("crown", seed)
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=draws) * scale)
        for name, value in network.named_buffers():
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=draws) + 0.5)
    return network.eval()


def small(seed: int) -> nn.Module:
    """Every kind of layer that bounds know."""
    return randomised(nn.Sequential(
        Feed(InputTransform(low=1.0, high=0.0, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))),
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(24, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 4),
    ), seed)  # fmt: skip


def box_around(x: Tensor, eps: float) -> Box:
    return (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)


def lowest_sampled(network: nn.Module, box: Box, y: Tensor, seed: int, samples: int = 200) -> Tensor:
    """The least margins of random corners of the box, (N, K): never below a sound bound."""
    draws, least = generator("corners", seed), torch.full((len(y), 4), torch.inf, dtype=torch.float64)
    for _ in range(samples):
        corner = box[0] + (box[1] - box[0]) * torch.randint(0, 2, box[0].shape, generator=draws)
        logits = network(corner)
        least = torch.minimum(least, logits.gather(1, y[:, None]) - logits)
    return least


def problem(seed: int, eps: float) -> tuple[nn.Module, Box, Tensor]:
    x = torch.rand(4, 3, 16, 16, generator=generator("box", seed)).double()
    return small(seed).double(), box_around(x, eps), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("eps", [0.0, 0.001, 0.02])
@torch.no_grad()
def test_no_sampled_input_leaves_the_bounds(seed: int, eps: float) -> None:
    network, box, y = problem(seed, eps)
    _, bound = crown.crown_margins(layers_of(network), box, y)
    least = lowest_sampled(network, box, y, seed)
    assert bool((least >= bound - 1e-9).all())
    if not eps:
        assert torch.allclose(bound, least, rtol=0, atol=1e-9)


@torch.no_grad()
def test_bounds_are_tighter_than_intervals_and_what_counts_is_the_better() -> None:
    network, box, y = problem(1, 0.005)
    layers = layers_of(network)
    by_intervals, bound = crown.crown_margins(layers, box, y)
    assert torch.equal(by_intervals, interval.margins(layers, box, y))
    assert float((bound - by_intervals).mean()) > 0.1
    assert torch.equal(crown.margins(layers, box, y), torch.maximum(bound, by_intervals))
    assert bool((crown.margins(layers, box, y, 1e-6)[:, 1:] < crown.margins(layers, box, y)[:, 1:]).all())


def shallow(falling: bool) -> nn.Sequential:
    """Two inputs, five hidden units, two classes; `falling`: every hidden unit lowers the margin of class 0."""
    network = randomised(nn.Sequential(nn.Flatten(), nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2)), 3, 1.0).double()
    assert isinstance(network, nn.Sequential)
    with torch.no_grad():
        network.get_parameter("1.bias").mul_(0.1)
        if falling:
            last = network.get_parameter("3.weight")
            last.copy_(torch.stack([-last[0].abs(), last[1].abs()]))
    return network


def relaxed_minimum(network: nn.Sequential, box: Box) -> float:
    """The least margin of class 0 over 1 under the triangle relaxation of every ReLU, by linear programming."""
    first, bias, last, offset = (p.detach().numpy() for p in network.parameters())
    low, high = (value.flatten().numpy() for value in box)
    centre, radius = first @ (low + high) / 2 + bias, np.abs(first) @ (high - low) / 2
    rows, limits = [], []
    for i, (lower, upper) in enumerate(zip(centre - radius, centre + radius, strict=True)):
        unit, above = np.eye(5)[i], upper > 0
        slope = min(1.0, upper / (upper - lower)) if above else 0.0
        height = -slope * min(lower, 0.0)
        for sign, (a, b) in ((-1, (1.0, 0.0)), (-1, (0.0, 0.0)), (1, (slope, height))):
            rows.append(np.concatenate([-sign * a * first[i], sign * unit]))
            limits.append(sign * (a * bias[i] + b))
    cost = np.concatenate([np.zeros(2), last[0] - last[1]])
    bounds = [*zip(low, high, strict=True), *[(None, None)] * 5]
    return float(linprog(cost, np.array(rows), np.array(limits), bounds=bounds).fun + offset[0] - offset[1])


@pytest.mark.parametrize("falling", [True, False])
@torch.no_grad()
def test_against_the_linear_program(falling: bool) -> None:
    """Never above its optimum; equal to it where only the lines above ReLU matter, which are the best there are."""
    network, y = shallow(falling), torch.tensor([0])
    for centre in np.random.default_rng(0).random((12, 2)):
        box = box_around(torch.from_numpy(centre).view(1, 1, 1, 2), 0.2)
        bound = float(crown.crown_margins(layers_of(network), box, y)[1][0, 1])
        optimum = relaxed_minimum(network, box)
        assert bound <= optimum + 1e-9
        if falling:
            assert bound == pytest.approx(optimum, abs=1e-9)


@torch.no_grad()
def test_a_planted_fault_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the lines below and above ReLU exchanged, inputs leave the bounds: soundness is something that can fail."""
    network, y, sound = shallow(falling=True), torch.tensor([0]), crown.relu_lines
    box = box_around(torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64), 0.3)
    grid = torch.cartesian_prod(*[torch.linspace(0.2, 0.8, 21, dtype=torch.float64)] * 2).view(-1, 1, 1, 2)
    logits = network(grid)
    least = float((logits[:, 0] - logits[:, 1]).min())

    def exchanged(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        below, above, height = sound(lower, upper)
        return above, below, torch.zeros_like(height)

    assert float(crown.crown_margins(layers_of(network), box, y)[1][0, 1]) <= least + 1e-9
    monkeypatch.setattr(crown, "relu_lines", exchanged)
    assert float(crown.crown_margins(layers_of(network), box, y)[1][0, 1]) > least + 1e-3


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 3.0), (-3.0, 1.0), (-2.0, -1.0), (1.0, 2.0), (0.0, 0.0), (-1, 1)])
def test_the_lines_hold_relu_between_them(lower: float, upper: float) -> None:
    below, above, height = (float(v) for v in crown.relu_lines(torch.tensor(float(lower)), torch.tensor(float(upper))))
    for z in np.linspace(lower, upper, 9):
        assert below * z <= max(z, 0.0) + 1e-6
        assert above * z + height >= max(z, 0.0) - 1e-6


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1), nn.MaxPool2d((2, 3), stride=(1, 2)),
     nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.MaxPool2d(2, stride=1, dilation=2)],
    ids=str,
)  # fmt: skip
@torch.no_grad()
def test_windows_are_those_of_the_pooling(pool: nn.MaxPool2d) -> None:
    x = torch.randn(2, 3, 7, 8, generator=generator("pool"))
    out = pool(x)
    windows = crown._windows(pool, x.shape[2:], out.shape[2:], x.device)
    assert torch.equal(crown._at(x, windows).amax(dim=2), out.flatten(2))


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 2, (3, 2), stride=(2, 3), padding=(1, 0)), nn.Conv2d(3, 2, (3, 5), padding="same"),
     nn.Conv2d(3, 6, 3, groups=3, dilation=2, bias=False), nn.AvgPool2d(3, stride=2, padding=1),
     nn.AdaptiveAvgPool2d(3), nn.MaxPool2d(3, stride=2, padding=1)],
    ids=str,
)  # fmt: skip
@torch.no_grad()
def test_a_box_of_one_point_gives_the_margins_whatever_the_layer(layer: nn.Module) -> None:
    x = torch.rand(3, 3, 9, 10, generator=generator("point")).double()
    features = layer.double()(x).flatten(1).shape[1]
    network = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(features, 4)).double()
    logits, y = network(x), torch.tensor([0, 1, 3])
    _, bound = crown.crown_margins(layers_of(network), (x, x), y)
    assert torch.allclose(bound, logits.gather(1, y[:, None]) - logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("eps", [0.001, 0.004, 0.05])
def test_what_is_certified_withstands_the_attack_sample_by_sample(eps: float) -> None:
    network, draws = small(2), generator("attack", eps)
    x = torch.rand(60, 3, 16, 16, generator=draws)
    y = network(x).argmax(dim=1)
    box = box_around(x.double(), eps)
    proven, by_intervals = by_crown(network, *box, y), certified(network, *box, y)
    with still(network):
        x_adv = pgd_examples(network, x, y, budget=PerturbationBudget("linf", eps), steps=20, generator=draws)
    withstood = network(x_adv).argmax(dim=1) == y
    assert bool((by_intervals <= proven).all())
    assert bool((proven <= withstood).all())
    assert (int(proven.sum()) > int(by_intervals.sum())) == (eps < 0.05)
    assert eps < 0.05 or not bool(withstood.all())


def test_the_training_loss_mixes_both_bounds() -> None:
    """At eps 0 it is the cross-entropy; without CROWN's weight it is that of intervals; with it, it is lower."""
    network = small(3)
    batch = Batch(torch.rand(8, 3, 16, 16, generator=generator(1)), torch.arange(8) % 4, torch.arange(8), generator(0))

    def loss(eps: float, beta: float | None) -> Tensor:
        weight = None if beta is None else lambda step, steps: beta
        return interval_bounds(lambda step, steps: eps, lambda step, steps: 0.0, weight)(network, batch).loss

    natural = float(functional.cross_entropy(network(batch.x), batch.y).detach())
    assert float(loss(0.0, 1.0).detach()) == pytest.approx(natural, rel=1e-4)
    assert float(loss(0.004, 0.0).detach()) == float(loss(0.004, None).detach())
    mixed, alone = loss(0.004, 0.5), loss(0.004, 1.0)
    assert float(alone.detach()) < float(mixed.detach()) < float(loss(0.004, None).detach())
    alone.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    assert float(network.get_parameter("1.weight").grad.abs().sum()) > 0  # type: ignore[union-attr]
