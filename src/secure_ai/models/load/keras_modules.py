"""The layers of `files.keras` as torch modules, with Keras's padding, epsilon and order of memory.

Images travel as (N, C, H, W); a layer's input shape is given as Keras has it, (H, W, C). Settings and shapes were
checked when the file was read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.errors import KerasFormatError
from secure_ai.files.keras import KerasLayer
from secure_ai.files.keras_layers import IDENTITIES
from secure_ai.models.networks.keras_stacks import Array
from secure_ai.models.networks.layers import new_layer
from secure_ai.models.tensors import array_to_tensor

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]
KERAS_EPSILON = 1e-7  # least standard deviation
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


class SpatialMax(nn.Module):
    """Largest value over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> (N, C)."""
        return x.amax((2, 3))


class HwcReshape(nn.Module):
    """Reshape in Keras's order of memory, between vectors and images.

    Args:
        shape: (F,) or (H, W, C).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) or (N, F)."""
        flat = x.permute(0, 2, 3, 1).flatten(1) if x.dim() == 4 else x
        return flat.unflatten(1, self.shape).permute(0, 3, 1, 2) if len(self.shape) == 3 else flat


class Rescaled(nn.Module):
    """Values times a scale plus an offset, the same for all or by channel."""

    def __init__(self, scale: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) or (N, F)."""
        return x * self.get_buffer("scale") + self.get_buffer("offset")


class Normalized(nn.Module):
    """Values less a mean over a standard deviation, the same for all or by channel."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) or (N, F)."""
        return (x - self.get_buffer("mean")) / self.get_buffer("std")


class TwoScores(nn.Module):
    """One score an image as two: 0 for class 0, the score for class 1."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, 1) -> (N, 2)."""
        return torch.cat([torch.zeros_like(x), x], dim=1)


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


def _by_channel(values: Any, shape: Shape) -> Tensor:
    """One value, or one a channel, as it is broadcast on (N, C, H, W) or (N, F)."""
    tensor = torch.from_numpy(np.array(values, dtype=np.float32)).reshape(1, -1)
    return tensor[:, :, None, None] if len(shape) == 3 else tensor


def _rescaling(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    return [Rescaled(_by_channel(layer.config["scale"], shape), _by_channel(layer.config["offset"], shape))]


def _normalization(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    given = (layer.config["mean"], layer.config["variance"]) if layer.config else layer.weights[:2]
    mean, variance = (_by_channel(values, shape) for values in given)
    return [Normalized(mean, variance.sqrt().clamp_min(KERAS_EPSILON))]


def _relu(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    if not layer.config:
        return []  # its activation is relu
    slope, most = layer.config["negative_slope"], layer.config.get("max_value")
    first: nn.Module = nn.LeakyReLU(slope) if slope else nn.ReLU()
    return [first] if most is None else [first, nn.Hardtanh(-torch.finfo(torch.float32).max, most)]


def _zero_padding(layer: KerasLayer, shape: Shape) -> list[nn.Module]:
    return [nn.ZeroPad2d(_torch_pads(layer.config["padding"]))]


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
    "ReLU": _relu,
    "Softmax": _nothing,
    "LeakyReLU": lambda layer, shape: [nn.LeakyReLU(layer.config["negative_slope"])],
    "ELU": lambda layer, shape: [nn.ELU(layer.config["alpha"])],
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Reshape": lambda layer, shape: [HwcReshape(layer.output_shape)],
    "ZeroPadding2D": _zero_padding,
    "GlobalMaxPooling2D": lambda layer, shape: [SpatialMax()],
    **dict.fromkeys(IDENTITIES, _nothing),
}

_ACTIVATIONS: dict[str, Callable[[], list[nn.Module]]] = {
    "linear": list,
    "relu": lambda: [nn.ReLU()],
    "softmax": lambda: [nn.Softmax(dim=1)],  # Keras's last axis, the channels
    "sigmoid": lambda: [nn.Sigmoid()],
    "tanh": lambda: [nn.Tanh()],
    "gelu": lambda: [nn.GELU()],
    "silu": lambda: [nn.SiLU()],
    "elu": lambda: [nn.ELU()],
    "leaky_relu": lambda: [nn.LeakyReLU(0.2)],
    "softplus": lambda: [nn.Softplus()],
    "relu6": lambda: [nn.ReLU6()],
}


def activation_of(layer: KerasLayer) -> str:
    """What the layer ends with: one of `keras_layers.ACTIVATIONS`."""
    if layer.kind == "ReLU":
        return "linear" if layer.config else "relu"
    return "softmax" if layer.kind == "Softmax" else str(layer.config.get("activation", "linear"))


def modules_of(layer: KerasLayer, input_shape: Shape, activation: str) -> list[nn.Module]:
    """The layer as torch modules to run in order, on (N, C, H, W) or (N, F).

    Args:
        input_shape: (H, W, C) or (F,).
        activation: what to end with; `activation_of(layer)`, or linear to leave it out.
    """
    return [*_MODULES[layer.kind](layer, input_shape), *_ACTIVATIONS[activation]()]
