"""Interval bounds: exact where they must be, sound everywhere, and never above an attack."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from secure_ai.blue.certify.crown import margins as crown_margins
from secure_ai.blue.certify.interval import Margins, certified, margins, propagate
from secure_ai.blue.certify.layers import BUILT_IN, Feed, layers_of
from secure_ai.blue.training.certified_training import interval_bounds, interval_initialise
from secure_ai.blue.training.methods import Batch
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import ArchError, UsageError
from secure_ai.core.seeds import generator
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.target.transform import InputTransform
from secure_ai.runs.stages.adversaries import pgd_examples, still


def small(seed: int) -> nn.Sequential:
    """Every kind of layer that bounds know; batch normalisation with statistics of its own."""
    draws = generator(seed)
    network = nn.Sequential(
        Feed(InputTransform(low=1.0, high=0.0, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))),
        nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        nn.MaxPool2d(2), nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(24, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 4),
    )  # fmt: skip
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=draws) * 0.5)
        for name, value in network.named_buffers():
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=draws) + 0.5)
    return network.eval()


@pytest.mark.parametrize("seed", range(4))
def test_no_sampled_input_leaves_the_bounds(seed: int) -> None:
    network, draws = small(seed), generator("box", seed)
    x = torch.rand(6, 3, 16, 16, generator=draws)
    lower, upper = (x - 0.05).clamp(0, 1), (x + 0.05).clamp(0, 1)
    low, high = propagate(layers_of(network), (lower, upper))
    bound = margins(layers_of(network), (lower, upper), torch.zeros(6, dtype=torch.int64))
    with torch.no_grad():
        for _ in range(200):
            inside = lower + (upper - lower) * torch.randint(0, 2, x.shape, generator=draws)
            logits = network(inside)
            assert bool((logits >= low - 1e-4).all())
            assert bool((logits <= high + 1e-4).all())
            assert bool((logits[:, :1] - logits >= bound - 1e-4).all())


def test_bounds_of_a_linear_network_are_exact() -> None:
    """The margin of a linear network falls by exactly eps times the l1 norm of the difference of two rows."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    x, y = torch.full((1, 1, 2, 2), 0.5).double(), torch.tensor([1])
    weight, logits = network.get_parameter("1.weight"), network(x)
    bound = margins(layers_of(network), (x - 0.1, x + 0.1), y)
    exact = logits[:, 1:2] - logits - 0.1 * (weight[1] - weight).abs().sum(dim=1)
    assert torch.allclose(bound, exact, rtol=0, atol=1e-12)


def test_a_box_of_one_point_gives_the_logits() -> None:
    network = small(1)
    x = torch.rand(3, 3, 16, 16, generator=generator(3))
    low, high = propagate(layers_of(network), (x, x))
    assert torch.allclose(low, network(x), atol=1e-4)
    assert torch.allclose(high, network(x), atol=1e-4)


@pytest.mark.parametrize("eps", [0.0, 0.001, 0.05, 0.3])
def test_what_is_certified_withstands_the_attack_sample_by_sample(eps: float) -> None:
    network, draws = small(2), generator("attack", eps)
    x = torch.rand(80, 3, 16, 16, generator=draws)
    y = network(x).argmax(dim=1)
    proven = certified(network, (x - eps).clamp(0, 1), (x + eps).clamp(0, 1), y)
    with still(network):
        x_adv = pgd_examples(network, x, y, budget=PerturbationBudget("linf", eps), steps=20, generator=draws)
    withstood = network(x_adv).argmax(dim=1) == y
    assert bool((proven <= withstood).all())
    assert (int(proven.sum()) > 0) == (eps < 0.05)  # a control: small boxes are proven, large ones are not
    assert eps < 0.05 or not bool(withstood.all())


def test_a_wrong_prediction_is_never_certified() -> None:
    network = small(2)
    x = torch.rand(20, 3, 16, 16, generator=generator(5))
    wrong = (network(x).argmax(dim=1) + 1) % 4
    assert not bool(certified(network, x, x, wrong).any())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layers_of_a_built_in_network_compute_what_it_computes(name: str) -> None:
    network = build_network(name, generator=generator(0)).eval()
    x = torch.rand(2, 1, 28, 28, generator=generator(1))
    assert torch.allclose(nn.Sequential(*layers_of(network))(x), network(x), atol=1e-5)


@pytest.mark.parametrize(
    ("network", "where"),
    [
        (nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), nn.Linear(4, 2)), "1.1"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), nn.Linear(4, 2)), "0"),
        (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Linear(4, 2)), "0"),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=-4), nn.Linear(4, 2)), "0"),
        (nn.Sequential(nn.Linear(4, 2), nn.ReLU()), "the network"),
    ],
)
def test_an_unknown_layer_is_named(network: nn.Module, where: str) -> None:
    with pytest.raises(ArchError) as refused:
        layers_of(network)
    assert refused.value.where == where


def test_the_training_loss_at_eps_0_is_cross_entropy() -> None:
    network = small(3)
    x, y = torch.rand(8, 3, 16, 16, generator=generator(1)), torch.arange(8) % 4
    batch = Batch(x, y, torch.arange(8), generator(0))
    expected = nn.functional.cross_entropy(network(x), y)
    for kappa in (0.0, 0.5, 1.0):
        found = interval_bounds(lambda step, steps: 0.0, lambda step, steps, k=kappa: k)(network, batch)  # type: ignore[misc]
        assert float(found.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    larger = interval_bounds(lambda step, steps: 0.1, lambda step, steps: 0.0)(network, batch)
    assert float(larger.loss.detach()) > float(expected.detach())


def test_batch_normalisation_in_training_uses_the_clean_images() -> None:
    """In training mode a box of one point gives the logits of training mode, and the averages move."""
    network = small(4)
    network.train()
    network[6].eval()  # dropout
    x = torch.rand(8, 3, 16, 16, generator=generator(2))
    before = network.get_buffer("1.1.running_mean").clone()
    low, high = propagate(layers_of(network), (x, x), clean=x)
    assert not torch.equal(network.get_buffer("1.1.running_mean"), before)
    assert torch.allclose(low, network(x), atol=1e-4)
    assert torch.allclose(high, low, atol=1e-4)


def test_initial_boxes_keep_their_size() -> None:
    network = build_network("report1-cnn", generator=generator(0))
    interval_initialise(network, generator(1))
    weight = network.get_parameter("dense1.weight")
    assert float(weight.detach().std()) == pytest.approx((2 * torch.pi) ** 0.5 / weight.shape[1], rel=0.05)


def test_a_fresh_start_leaves_nothing_of_an_earlier_training() -> None:
    norm = nn.BatchNorm2d(2)
    fresh = {name: value.clone() for name, value in norm.state_dict().items()}
    network = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.Flatten(), nn.Linear(8, 2))
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, 1.0)
    network(torch.rand(4, 1, 4, 4, generator=generator(0)))
    interval_initialise(network, generator(1))
    assert all(torch.equal(value, fresh[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("name", ["0", "1", "3"])
def test_a_fresh_start_refuses_a_frozen_layer_by_name(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    network.get_parameter(f"{name}.bias").requires_grad_(False)
    with pytest.raises(UsageError) as refused:
        interval_initialise(network, generator(1))
    assert refused.value.where == name


class Residual(nn.Sequential):
    """A sequence by its class, another network by its `forward`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, F)."""
        through: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x - 10 * through


def hooked() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda module, given, out: -out)
    return layer


@pytest.mark.parametrize("layer", [Residual(nn.Linear(4, 4)), hooked()], ids=["forward", "hook"])
def test_a_layer_that_computes_something_else_than_its_class_is_refused(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Sequential(layer), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ArchError) as caught:
        layers_of(network)
    assert caught.value.where == "1.0"


def dense(relu: Callable[[], nn.Module]) -> nn.Sequential:
    draws = generator(7)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), relu(), nn.Linear(24, 24), relu(), nn.Linear(24, 3))
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randn(value.shape, generator=draws) * 0.4)
    return network.eval()


@pytest.mark.parametrize("bound", [margins, crown_margins])
@pytest.mark.parametrize("shared", [True, False], ids=["one ReLU twice", "in place"])
def test_how_a_relu_is_written_changes_no_bound(bound: Margins, shared: bool) -> None:
    one = nn.ReLU()
    written = dense((lambda: one) if shared else (lambda: nn.ReLU(inplace=True)))
    x = torch.rand(30, 1, 4, 4, generator=generator(8)).double()
    box, y = (x - 0.02, x + 0.02), torch.arange(30) % 3
    expected = bound(layers_of(dense(nn.ReLU).double()), box, y, 0.0)
    assert torch.equal(bound(layers_of(written.double()), box, y, 0.0), expected)


def test_batch_normalisation_of_sequences_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(16, 2)).eval()
    x = torch.rand(2, 4, 2, 2, generator=generator(0))
    with pytest.raises(ArchError) as caught:
        certified(network, x, x, torch.zeros(2, dtype=torch.int64))
    assert caught.value.where == "BatchNorm1d"


def test_layers_that_were_read_wrongly_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network("report1-cnn", generator=generator(0)).eval()
    x, y = torch.rand(2, 1, 28, 28, generator=generator(1)), torch.zeros(2, dtype=torch.int64)
    assert certified(network, x, x, y).shape == (2,)
    right = BUILT_IN[type(network)]
    monkeypatch.setitem(BUILT_IN, type(network), lambda n: tuple(x for x in right(n) if not isinstance(x, nn.ReLU)))
    with pytest.raises(ArchError) as caught:
        certified(network, x, x, y)
    assert caught.value.where == "network"


def test_what_float32_rounds_in_a_wide_layer_is_allowed_for() -> None:
    """A sum of 65,536 products in float32 may be off by more than a margin that exact arithmetic proves."""
    wide = nn.Linear(65_536, 2)
    with torch.no_grad():
        wide.weight.copy_(torch.tensor([[1.0], [1.0 + 2.0**-17]]).expand(2, 65_536))
        nn.init.zeros_(wide.bias)
    x, one = torch.ones(1, 1, 256, 256), torch.ones(1, dtype=torch.int64)
    network = nn.Sequential(nn.Flatten(), wide)
    assert not bool(certified(network, x, x, one).any())  # exact margin 0.5 of 65,536
    with torch.no_grad():
        wide.weight[1] = 1.5
    assert bool(certified(network, x, x, one).all())  # a control: a margin of half the logit is proven


@pytest.mark.parametrize(("margin", "proven"), [(1e-4, False), (0.1, True)])
def test_what_float32_rounds_in_a_wide_average_is_allowed_for(margin: float, proven: bool) -> None:
    last = nn.Linear(1, 2)
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        last.bias.copy_(torch.tensor([1.0, -1.0 + margin]))
    x, one = torch.ones(1, 1, 256, 256), torch.ones(1, dtype=torch.int64)
    network = nn.Sequential(nn.AvgPool2d(256), nn.Flatten(), last)
    assert bool(certified(network, x, x, one).all()) == proven
