import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.errors import ArchError
from secure_ai.models.load.store import model_bytes
from secure_ai.models.load.trained import trained_target
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.tensors import state_digest, to_channels_last

NAMES = sorted(NETWORKS)


def built(name: str, seed: int = 0) -> Any:
    return build_network(name, generator=torch.Generator().manual_seed(seed))


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_shapes_and_features(name: str) -> None:
    network, entry = built(name), NETWORKS[name]
    assert sum(parameter.numel() for parameter in network.parameters()) == entry.parameters
    features = network.features(images())
    assert features.shape == (6, 128)
    torch.testing.assert_close(network.dense2(features), network(images()))
    assert network(images()).shape == (6, entry.num_classes)


def test_report_1_has_the_published_number_of_parameters() -> None:
    assert NETWORKS["report1-cnn"].parameters == 225_034


def test_report_1_starts_as_keras_does() -> None:
    """Glorot-uniform: within sqrt(6 / (fan_in + fan_out)) and spread evenly to both ends; zero biases."""
    network = built("report1-cnn")
    fans = {"conv1": (9, 288), "conv2": (288, 576), "dense1": (1600, 128), "dense2": (128, 10)}
    for name, (fan_in, fan_out) in fans.items():
        layer, bound = getattr(network, name), math.sqrt(6 / (fan_in + fan_out))
        assert float(layer.weight.detach().abs().max()) <= bound
        assert float(layer.weight.detach().abs().max()) > 0.97 * bound
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert not layer.bias.detach().any()


def test_report_2_starts_as_torch_does() -> None:
    """The same draws in the same order as torch's own constructors make from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        plain = [nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(12544, 128), nn.Linear(128, 10)]
    network = built("report2-cnn", seed=5)
    for name, layer in zip(("conv1", "conv2", "dense1", "dense2"), plain, strict=True):
        torch.testing.assert_close(getattr(network, name).weight, layer.weight)
        torch.testing.assert_close(getattr(network, name).bias, layer.bias)


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_from_the_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, second, other = built(name), built(name), built(name, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert state_digest(first.state_dict()) == state_digest(second.state_dict())
    assert state_digest(first.state_dict()) != state_digest(other.state_dict())


def in_the_order_of_report_1(network: Any, x: Tensor) -> Tensor:
    for conv in (network.conv1, network.conv2):
        x = functional.max_pool2d(functional.relu(conv(x)), 2)
    x = functional.relu(network.dense1(x.flatten(1)))
    logits: Tensor = network.dense2(x)
    return logits


def in_the_order_of_report_2(network: Any, x: Tensor) -> Tensor:
    x = functional.max_pool2d(functional.relu(network.conv2(functional.relu(network.conv1(x)))), 2)
    logits: Tensor = network.dense2(functional.relu(network.dense1(x.flatten(1))))
    return logits


def test_pooling_before_relu_is_the_same_function() -> None:
    for name, original in (("report1-cnn", in_the_order_of_report_1), ("report2-cnn", in_the_order_of_report_2)):
        network, x = built(name), images()
        assert torch.equal(network(x), original(network, x))


@pytest.mark.parametrize("name", NAMES)
def test_flatten_is_channel_first_in_every_memory_format(name: str) -> None:
    network, seen = built(name), []
    network.dense1.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    before_flatten: list[Tensor] = []
    network.pool.register_forward_hook(lambda module, args, output: before_flatten.append(output.detach()))
    plain = network(images())
    pooled = functional.relu(before_flatten[-1]).contiguous()
    assert torch.equal(seen[0], pooled.view(len(pooled), -1))
    to_channels_last(network)
    fast = network(images().contiguous(memory_format=torch.channels_last))
    assert before_flatten[-1].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(seen[1], seen[0])
    torch.testing.assert_close(fast, plain)


def test_kernels_of_one_channel_are_laid_out_too() -> None:
    """`contiguous` leaves them as they are, and the whole network then computes in the other layout."""
    network = to_channels_last(built("report1-cnn"))
    assert network.get_submodule("conv1")(images()).is_contiguous(memory_format=torch.channels_last)
    assert not built("report1-cnn").get_submodule("conv1")(images()).is_contiguous(memory_format=torch.channels_last)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ArchError) as refused:
        built("report3-cnn")
    assert refused.value.got == "report3-cnn"


def test_the_target_of_a_trained_network_computes_in_the_fast_layout() -> None:
    draw = torch.Generator().manual_seed(0)
    content = model_bytes(build_network("report1-cnn", generator=draw), "report1-cnn")
    target = trained_target(content, "report1-cnn", "a stage")
    images = torch.rand((8, 1, 28, 28), generator=draw).contiguous(memory_format=torch.channels_last)
    assert target.network.get_submodule("conv1")(images).is_contiguous(memory_format=torch.channels_last)
