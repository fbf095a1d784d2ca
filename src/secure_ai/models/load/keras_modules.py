"""The layers of `files.keras` as torch modules, with Keras's padding, epsilon and order of memory.

Images travel as (N, C, H, W); a layer's input shape is given as Keras has it, (H, W, C). Settings and shapes were
checked when the file was read.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.errors import KerasFormatError
from secure_ai.files.keras import KerasLayer
from secure_ai.models.networks.keras_stacks import Array
from secure_ai.models.networks.layers import new_layer
from secure_ai.models.tensors import array_to_tensor

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]
KERAS_MOMENTUM = 0.99  # torch's momentum is the other share


class HwcFlatten(nn.Module):
    """Flatten in Keras's order of memory."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> (N, H * W * C)."""
        return x.permute(0, 2, 3, 1).flatten(1)


class SpatialMean(nn.Module):
    """Mean over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> (N, C)."""
        return x.mean((2, 3))


class CountedAverage(nn.Module):
    """Average pooling over a padded image, where only real pixels count."""

    def __init__(self, pads: Pads, window: tuple[int, int], strides: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d(_torch_pads(pads))
        self.window, self.strides = window, strides
        self.register_buffer("share", self._sum(torch.ones(1, 1, *size)).reciprocal(), persistent=False)

    def _sum(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(self.pad(x), self.window, self.strides, divisor_override=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        return self._sum(x) * self.get_buffer("share")


def _pads(layer: KerasLayer, shape: Shape, window: tuple[int, int], strides: tuple[int, int]) -> Pads:
    """Rows above and below, columns left and right: with "same" ceil(size / stride) results, the odd one goes last."""
    if layer.config["padding"] == "valid":
        return (0, 0), (0, 0)
    rows, columns = (
        max((math.ceil(n / s) - 1) * s + k - n, 0) for n, k, s in zip(shape[:2], window, strides, strict=True)
    )
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def _torch_pads(pads: Pads) -> tuple[int, int, int, int]:
    (top, bottom), (left, right) = pads
    return left, right, top, bottom


def _symmetric(pads: Pads) -> bool:
    return all(before == after for before, after in pads)


@torch.no_grad()
def _filled(module: nn.Module, **values: Array) -> nn.Module:
    for name, array in values.items():
        getattr(module, name).copy_(array_to_tensor(array))
    return module


def _conv(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    config, kernel = layer.config, layer.weights[0]
    pads = _pads(layer, shape, config["kernel_size"], config["strides"])
    conv = new_layer(
        nn.Conv2d,
        shape[2],
        config["filters"],
        config["kernel_size"],
        stride=config["strides"],
        padding=(pads[0][0], pads[1][0]) if _symmetric(pads) else 0,
        bias=config["use_bias"],
    )
    _filled(conv, weight=kernel.transpose(3, 2, 0, 1), **_bias(layer))
    return [conv] if _symmetric(pads) else [nn.ZeroPad2d(_torch_pads(pads)), conv]


def _bias(layer: KerasLayer) -> dict[str, Array]:
    return {"bias": layer.weights[1]} if layer.config["use_bias"] else {}


def _max_pool(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    window, strides = layer.config["pool_size"], layer.config["strides"]
    pads = _pads(layer, shape, window, strides)
    if _symmetric(pads):
        return [nn.MaxPool2d(window, strides, (pads[0][0], pads[1][0]))]
    return [nn.ConstantPad2d(_torch_pads(pads), -math.inf), nn.MaxPool2d(window, strides)]


def _average_pool(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    window, strides = layer.config["pool_size"], layer.config["strides"]
    pads = _pads(layer, shape, window, strides)
    if not _symmetric(pads):
        raise KerasFormatError(
            "average pooling over a padding that differs from side to side",
            where=layer.name,
            expected="a size and strides with the same padding on both sides, or padding 'valid'",
            got=f"padding {pads}",
            hint="Keras on torch computes it otherwise than on TensorFlow or JAX, and the file does not say where it "
            "was trained: give the network as --arch FILE.py:FACTORY with its weights",
        )
    if any(map(sum, pads)):
        return [CountedAverage(pads, window, strides, (shape[0], shape[1]))]
    return [nn.AvgPool2d(window, strides)]


def _dense(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    dense = new_layer(nn.Linear, shape[0], layer.config["units"], bias=layer.config["use_bias"])
    return [_filled(dense, weight=layer.weights[0].T, **_bias(layer))]


def _batch_norm(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    norm = kind(shape[-1], eps=layer.config["epsilon"], momentum=1 - KERAS_MOMENTUM)
    names = ["running_mean", "running_var"]
    for setting, name in (("center", "bias"), ("scale", "weight")):
        if layer.config[setting]:
            names.insert(0, name)
        else:
            norm.get_parameter(name).requires_grad_(False)  # Keras has none: it stays 0, or 1
    return [_filled(norm, **dict(zip(names, layer.weights, strict=True)))]


def _nothing(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    return []


_MODULES: dict[str, Callable[[KerasLayer, Shape], list[nn.Module]]] = {
    "Conv2D": _conv,
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _average_pool,
    "GlobalAveragePooling2D": lambda layer, shape: [SpatialMean()],
    "Flatten": lambda layer, shape: [HwcFlatten()] if len(shape) == 3 else [],
    "Dropout": lambda layer, shape: [nn.Dropout(layer.config["rate"])],
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "Activation": _nothing,
    "ReLU": _nothing,
    "Softmax": _nothing,
}

_ACTIVATIONS: dict[str, Callable[[], list[nn.Module]]] = {
    "linear": list,
    "relu": lambda: [nn.ReLU()],
    "softmax": lambda: [nn.Softmax(dim=1)],  # Keras's last axis, the channels
}


def activation_of(layer: KerasLayer) -> str:
    """What the layer ends with: linear, relu or softmax."""
    return {"ReLU": "relu", "Softmax": "softmax"}.get(layer.kind) or str(layer.config.get("activation", "linear"))


def modules_of(layer: KerasLayer, input_shape: Shape, activation: str) -> list[nn.Module]:
    """The layer as torch modules to run in order, on (N, C, H, W) or (N, F).

    Args:
        input_shape: (H, W, C) or (F,).
        activation: what to end with; `activation_of(layer)`, or linear to leave it out.
    """
    return [*_MODULES[layer.kind](layer, input_shape), *_ACTIVATIONS[activation]()]
