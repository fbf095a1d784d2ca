import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.errors import TargetError
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.wrappers import contiguous_input, logits_from_probabilities, recovers_exact_logits
from secure_ai.models.tensors import to_channels_last


class Probabilities(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        attention = torch.softmax(self.features(x), dim=1)  # another softmax, which is not the last
        return torch.softmax(self.linear(attention), dim=1)


def target_of(network: nn.Module) -> NetworkTarget:
    return NetworkTarget(network, name="t", digest="", input_shape=(1, 2, 2), num_classes=3)


def test_only_the_last_softmax_is_taken_off() -> None:
    network, x = Probabilities(), torch.rand(5, 1, 2, 2)
    logits = network.linear(torch.softmax(x.flatten(1), dim=1))
    assert recovers_exact_logits(network, x)
    assert torch.equal(logits_from_probabilities(network)(x), logits)


def test_a_softmax_that_is_not_the_answer_is_left_alone() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Softmax(dim=1), nn.Linear(4, 3))
    assert not recovers_exact_logits(network, torch.rand(5, 1, 2, 2))


def test_softmax_is_itself_again_outside() -> None:
    logits_from_probabilities(Probabilities())(torch.rand(1, 1, 2, 2))
    assert torch.softmax(torch.zeros(2), 0).tolist() == [0.5, 0.5]


def test_features_pass_through_where_there_are_any() -> None:
    x = torch.rand(5, 1, 2, 2)
    for wrap in (logits_from_probabilities, contiguous_input):
        assert torch.equal(target_of(wrap(Probabilities())).features(x), x.flatten(1))
        with pytest.raises(TargetError, match="no features"):
            target_of(wrap(nn.Linear(4, 3))).features(x)


def test_contiguous_input_undoes_channels_last_for_one_channel_too() -> None:
    """A (N, 1, H, W) tensor counts as contiguous in both layouts, but a convolution reads its strides."""
    network = to_channels_last(nn.Conv2d(1, 4, 3))
    x = torch.rand(2, 5, 5, 1).permute(0, 3, 1, 2)
    assert x.is_contiguous()
    assert not network(x).is_contiguous()
    assert contiguous_input(network)(x).is_contiguous()
