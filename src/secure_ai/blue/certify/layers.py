"""A network as the list of layers that bounds go through, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from secure_ai.core.errors import ArchError
from secure_ai.models.networks.built_in import Report1Cnn, Report2Cnn
from secure_ai.models.target.transform import InputTransform


class Feed(nn.Module):
    """What pixels in [0, 1] become before the first layer."""

    def __init__(self, transform: InputTransform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to x: (N, C, H, W)."""
        return self.transform(x)


SUPPORTED = (
    nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.BatchNorm1d,
    nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity, Feed,
)  # fmt: skip

BUILT_IN: dict[type[nn.Module], Callable[[Any], tuple[nn.Module, ...]]] = {
    Report1Cnn: lambda n: (
        n.conv1, n.pool, nn.ReLU(), n.conv2, n.pool, nn.ReLU(), nn.Flatten(), n.dense1, nn.ReLU(), n.dense2
    ),
    Report2Cnn: lambda n: (
        n.conv1, nn.ReLU(), n.conv2, n.pool, nn.ReLU(), nn.Flatten(), n.dense1, nn.ReLU(), n.dense2
    ),
}  # fmt: skip
"""What the built-in networks compute, layer by layer (a test compares)."""


def layers_of(network: nn.Module) -> tuple[nn.Module, ...]:
    """The layers of `network` in order, sharing its weights.

    Raises:
        ArchError: a layer that bounds do not know, by name; or a network that is no `nn.Sequential`.
    """
    found = _flat(network, "")
    for name, module in network.named_modules():
        _refuse_altered(name, module)
    for name, layer in found:
        _refuse(name, layer)
    if not found or not isinstance(found[-1][1], nn.Linear):
        got = type(found[-1][1]).__name__ if found else "no layer"
        raise ArchError("bounds need a linear last layer", where="the network", expected="nn.Linear", got=got)
    return tuple(nn.ReLU() if isinstance(layer, nn.ReLU) else layer for _, layer in found)  # none works in place


def _flat(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    if type(module) in BUILT_IN:
        return [(f"{name}{i}", layer) for i, layer in enumerate(BUILT_IN[type(module)](module))]
    if not _plain_sequence(module):
        return [(name.rstrip(".") or type(module).__name__, module)]
    children = module._modules.items()  # one that stands twice comes twice, unlike in `named_children`
    return [pair for inner, layer in children if layer is not None for pair in _flat(layer, f"{name}{inner}.")]


def _plain_sequence(module: nn.Module) -> bool:
    """Whether its layers run one after another: a subclass with its own `forward`, e.g. a residual, may differ."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _refuse_altered(name: str, module: nn.Module) -> None:
    """Hooks, and a `forward` of one module alone, change what it computes and not what it is."""
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        where = name or "the network"
        raise ArchError("bounds do not know what hooks do", where=where, expected="no hooks, the class's own forward")


def _refuse(name: str, layer: nn.Module) -> None:
    expected = "nn.Sequential of " + ", ".join(kind.__name__ for kind in SUPPORTED)
    if type(layer) not in SUPPORTED:
        raise ArchError("bounds do not know this layer", where=name, expected=expected, got=type(layer).__name__)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise ArchError("bounds know padding by zeros only", where=name, expected="zeros", got=layer.padding_mode)
    if isinstance(layer, nn.AvgPool2d) and (layer.divisor_override or 1) < 0:
        raise ArchError("an average that falls", where=name, expected="a divisor > 0", got=layer.divisor_override)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is None:
        raise ArchError("batch statistics are not kept", where=name, expected="track_running_stats=True", got="False")
