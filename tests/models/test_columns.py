"""The gradient by columns against the library's own, and where it must stand aside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.models import columns
from secure_ai.models.columns import FrozenConvolutions


def images(channels: int = 1) -> Tensor:
    """Six images of 11 x 9 values."""
    return torch.rand(6, channels, 11, 9, generator=torch.Generator().manual_seed(0))


def convolution(channels: int = 1, **settings: Any) -> nn.Conv2d:
    """Five kernels of 3 x 5 values, frozen."""
    layer = nn.Conv2d(channels, 5, (3, 5), **settings)
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return layer.requires_grad_(False)


def gradient(layer: nn.Module, x: Tensor) -> Tensor:
    """Of a sum in which every output has another weight."""
    point = x.clone().requires_grad_()
    output = layer(point)
    weights = torch.arange(output.numel(), dtype=torch.float32).view_as(output).sin()
    return torch.autograd.grad((output * weights).sum(), point)[0]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets an entry whenever columns are used."""
    found: list[int] = []
    apply = columns._ByColumns.apply

    def counted(*arguments: Any) -> Any:
        found.append(1)
        return apply(*arguments)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(columns._ByColumns, "apply", counted)
    return found


@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
@pytest.mark.parametrize("dilation", [1, (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_library_gives_the_same(calls: list[int], stride: Any, padding: Any, dilation: Any, bias: bool) -> None:
    layer = convolution(stride=stride, padding=padding, dilation=dilation, bias=bias)
    expected = gradient(layer, images())
    with FrozenConvolutions():
        got = gradient(layer, images())
    assert calls
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert float(expected.abs().max()) > 0.1


def test_the_output_is_the_librarys_to_the_bit() -> None:
    layer, x = convolution(), images().requires_grad_()
    with FrozenConvolutions():
        assert torch.equal(layer(x), layer(x.detach()))


def test_an_operator_of_an_exported_graph_counts_too(calls: list[int]) -> None:
    layer = convolution()

    class Graph(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = torch.ops.aten.conv2d.default(x, layer.weight, layer.bias)
            return found

    with FrozenConvolutions():
        got = gradient(Graph(), images())
    assert calls
    torch.testing.assert_close(got, gradient(layer, images()), rtol=1e-5, atol=1e-5)


def test_a_gradient_of_the_gradient_is_right() -> None:
    """A network may differentiate in its own forward pass."""

    def second(x: Tensor) -> Tensor:
        point = x.clone().requires_grad_()
        first = torch.autograd.grad(convolution()(point).square().sum(), point, create_graph=True)[0]
        return torch.autograd.grad(first.square().sum(), point)[0]

    expected = second(images())
    with FrozenConvolutions():
        got = second(images())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": (2, 1), "bias": False}])
def test_in_bfloat16_it_differs_from_float32_by_rounding(calls: list[int], settings: Any) -> None:
    layer = convolution(**settings)
    expected = gradient(layer, images())
    with FrozenConvolutions(), torch.autocast("cpu", dtype=torch.bfloat16):
        got = gradient(layer, images())
    assert calls
    assert got.dtype is torch.float32
    wrong = float((got - expected).norm() / expected.norm())
    assert 0 < wrong < torch.finfo(torch.bfloat16).eps  # 0.3 to 0.5 of it, as the library's own


@pytest.mark.parametrize("case", ["three channels", "trainable", "no gradient", "same", "double", "one image"])
def test_stands_aside(calls: list[int], case: str) -> None:
    channels = 3 if case == "three channels" else 1
    layer, x = convolution(channels, padding="same" if case == "same" else 0), images(channels)
    if case == "trainable":
        layer.requires_grad_(True)
    if case == "double":
        layer, x = layer.double(), x.double()
    x = x[0] if case == "one image" else x
    with FrozenConvolutions():
        layer(x.requires_grad_(case != "no gradient"))
    assert not calls
