"""Losses against values worked out by hand on fixed logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from secure_ai.blue.training.methods import Batch
from secure_ai.blue.training.objectives import against, gaussian, mart, on_examples, trades, weight_perturbed
from secure_ai.core.seeds import generator


class Fixed(nn.Module):
    """Two classes; the first pixel says which logits: below 0.5 the clean ones, above it the attacked."""

    def forward(self, x: Tensor) -> Tensor:
        clean, attacked = torch.tensor([math.log(3.0), 0.0]), torch.tensor([0.0, 0.0])  # p = (3/4, 1/4) and (1/2, 1/2)
        return torch.where(x.flatten(1)[:, :1] < 0.5, clean, attacked)


def batch(n: int = 4, **changes: object) -> Batch:
    x, y = torch.zeros(n, 1, 2, 2), torch.zeros(n, dtype=torch.int64)
    return Batch(x, y, torch.arange(n), generator(0), **changes)  # type: ignore[arg-type]  # a table of settings


X_ADV = torch.ones(4, 1, 2, 2)
KL = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)


def test_trades_is_cross_entropy_plus_beta_times_the_divergence() -> None:
    loss = trades(6.0)(Fixed(), batch(), X_ADV).loss
    assert float(loss) == pytest.approx(-math.log(0.75) + 6 * KL, rel=1e-5)


def test_mart_weights_the_divergence_by_the_doubt_of_the_clean_prediction() -> None:
    loss = mart(5.0)(Fixed(), batch(), X_ADV).loss
    boosted = -math.log(0.5) - math.log(1 - 0.5)
    assert float(loss) == pytest.approx(boosted + 5 * KL * (1 - 0.75), rel=1e-5)


def test_adversarial_training_sees_the_examples_alone() -> None:
    method = against(lambda network, batch: X_ADV, on_examples)
    result = method(Fixed(), batch())
    assert float(result.loss) == pytest.approx(math.log(2), rel=1e-6)
    assert result.n == 4


def test_the_divergence_moves_the_clean_prediction_too() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    result = trades(1.0)(network, batch(), X_ADV)
    result.loss.backward()
    gradient = network.get_parameter("1.weight").grad
    assert isinstance(gradient, Tensor)
    assert bool(gradient.isfinite().all())


def test_awp_measures_the_loss_at_the_worst_weights_nearby_and_leaves_the_weights() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    plain = on_examples(network, batch(), X_ADV).loss
    moved = weight_perturbed(on_examples, 0.005, 0.0)(network, batch(), X_ADV).loss
    early = weight_perturbed(on_examples, 0.05, 0.5)(network, batch(step=1, steps=10), X_ADV).loss
    gradient = torch.autograd.grad(plain, network.get_parameter("1.weight"), retain_graph=True)[0]
    step = 0.005 * network.get_parameter("1.weight").detach().norm() * gradient.norm()  # to first order
    assert float((moved - plain).detach()) == pytest.approx(float(step), rel=0.1)
    assert torch.equal(early, plain)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    moved.backward()
    assert network.get_parameter("1.weight").grad is not None


def test_awp_passes_over_a_weight_that_the_loss_does_not_depend_on() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    alone = weight_perturbed(on_examples, 0.005, 0.0)(network, batch(), X_ADV).loss
    network.register_parameter("spare", nn.Parameter(torch.ones(3, 3)))
    beside = weight_perturbed(on_examples, 0.005, 0.0)(network, batch(), X_ADV).loss
    assert torch.equal(beside, alone)
    beside.backward()
    assert network.get_parameter("1.weight").grad is not None
    assert network.get_parameter("spare").grad is None


def test_awp_of_biases_alone_is_the_plain_objective() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    network.get_parameter("1.weight").requires_grad_(False)
    loss = weight_perturbed(on_examples, 0.05, 0.0)(network, batch(), X_ADV).loss
    assert torch.equal(loss, on_examples(network, batch(), X_ADV).loss)
    loss.backward()
    assert network.get_parameter("1.bias").grad is not None


def test_gaussian_noise_has_its_deviation_and_is_not_clipped() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return torch.zeros(len(x), 2)

    gaussian(0.5)(Spy(), batch(1000))
    assert float(seen[0].std()) == pytest.approx(0.5, rel=0.05)
    assert bool((seen[0] < 0).any())
