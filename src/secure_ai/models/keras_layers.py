"""Keras layers as torch modules: the closed list of `files.keras`, with Keras's padding, epsilon and axis rules.

Images travel as (N, C, H, W), their shape is known at every layer, and what Keras calls axis -1 is dimension 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.errors import KerasFormatError
from secure_ai.files.keras import KerasLayer
from secure_ai.models.tensors import array_to_tensor

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]
Array = np.ndarray[Any, Any]


class HwcFlatten(nn.Module):
    """Flatten (N, C, H, W) in Keras's order of memory, (N, H * W * C)."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> (N, H * W * C)."""
        return x.permute(0, 2, 3, 1).flatten(1)


class SpatialMean(nn.Module):
    """Mean over height and width, (N, C), or (N, C, 1, 1) with `keepdims`."""

    def __init__(self, keepdims: bool) -> None:
        super().__init__()
        self.keepdims = keepdims

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        return x.mean((2, 3), keepdim=self.keepdims)


class CountedAverage(nn.Module):
    """Average pooling over padded borders, where only real pixels count.

    Note: TensorFlow and JAX define it so. Keras's torch backend repeats the border instead where the padding of the two
    sides differs, so that one file means two networks there; this is the one its format was made for.
    """

    def __init__(self, pads: Pads, pool: tuple[int, int], strides: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d(_torch_pads(pads))
        self.pool, self.strides = pool, strides
        self.register_buffer("share", self._sum(torch.ones(1, 1, *size)).reciprocal(), persistent=False)

    def _sum(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(self.pad(x), self.pool, self.strides, divisor_override=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        return self._sum(x) * self.get_buffer("share")


class ClippedRelu(nn.Module):
    """Keras's ReLU layer: max_value above, negative_slope * (x - threshold) below the threshold, x between."""

    def __init__(self, max_value: float | None, negative_slope: float, threshold: float) -> None:
        super().__init__()
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        above = torch.where(x > self.threshold, x, torch.zeros_like(x))
        if self.max_value is not None:
            above = above.clamp(max=self.max_value)
        return above - self.negative_slope * functional.relu(self.threshold - x) if self.negative_slope else above


# Keras's own defaults, where they differ from torch's: leaky_relu's slope is 0.2
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "softmax": lambda: nn.Softmax(dim=1),
    "log_softmax": lambda: nn.LogSoftmax(dim=1),
}


def _refused(layer: KerasLayer, problem: str, expected: object, got: object) -> KerasFormatError:
    return KerasFormatError(problem, where=f"{layer.kind} {layer.name}", expected=expected, got=got)


def _pair(config: Mapping[str, Any], key: str, default: int = 1) -> tuple[int, int]:
    value: Any = default if config.get(key) is None else config[key]
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _image_shape(layer: KerasLayer, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise _refused(layer, "the layer needs images", "height, width and channels", f"{shape}")
    return shape[0], shape[1], shape[2]


def _padding(layer: KerasLayer, size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]) -> Pads:
    """Zeros on each side; with "same" the output has ceil(size / stride) values and the odd zero goes last."""
    if layer.config.get("padding", "valid") == "valid":
        return (0, 0), (0, 0)
    totals = [max((math.ceil(n / s) - 1) * s + k - n, 0) for n, k, s in zip(size, window, strides, strict=True)]
    return (totals[0] // 2, totals[0] - totals[0] // 2), (totals[1] // 2, totals[1] - totals[1] // 2)


def _torch_pads(pads: Pads) -> tuple[int, int, int, int]:
    (top, bottom), (left, right) = pads
    return left, right, top, bottom


def _output_size(
    layer: KerasLayer, size: tuple[int, int], pads: Pads, window: tuple[int, int], strides: tuple[int, int]
) -> tuple[int, int]:
    height, width = ((n + sum(pad) - k) // s + 1 for n, pad, k, s in zip(size, pads, window, strides, strict=True))
    if height < 1 or width < 1:
        raise _refused(layer, "the window is larger than its input", f"at most {size}", window)
    return height, width


def _symmetric(pads: Pads) -> bool:
    return all(before == after for before, after in pads)


def _put(parameter: nn.Parameter | Tensor | None, values: Array) -> None:
    if parameter is not None:
        with torch.no_grad():
            parameter.copy_(array_to_tensor(values))


def _with_bias(layer: KerasLayer) -> bool:
    return bool(layer.config.get("use_bias", True))


def _conv(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    channels, *size = _image_shape(layer, shape)
    kernel, strides, dilation = layer.weights[0], _pair(layer.config, "strides"), _pair(layer.config, "dilation_rate")
    area, filters, groups = (kernel.shape[0], kernel.shape[1]), kernel.shape[3], int(layer.config.get("groups", 1))
    if channels != kernel.shape[2] * groups or filters % groups:
        raise _refused(layer, "the kernel does not fit its input", f"{channels} channels", kernel.shape)
    window = ((area[0] - 1) * dilation[0] + 1, (area[1] - 1) * dilation[1] + 1)
    pads = _padding(layer, (size[0], size[1]), window, strides)
    output = _output_size(layer, (size[0], size[1]), pads, window, strides)
    inside = (pads[0][0], pads[1][0]) if _symmetric(pads) else (0, 0)
    conv = nn.utils.skip_init(
        nn.Conv2d, channels, filters, area, strides, inside, dilation, groups, bias=_with_bias(layer)
    )
    _put(conv.weight, kernel.transpose(3, 2, 0, 1))
    if _with_bias(layer):
        _put(conv.bias, layer.weights[1])
    return [*([] if _symmetric(pads) else [nn.ZeroPad2d(_torch_pads(pads))]), conv], (filters, *output)


def _pool(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    channels, *sides = _image_shape(layer, shape)
    size, pool = (sides[0], sides[1]), _pair(layer.config, "pool_size", 2)
    strides = _pair(layer.config, "strides") if layer.config.get("strides") is not None else pool
    pads = _padding(layer, size, pool, strides)
    output = (channels, *_output_size(layer, size, pads, pool, strides))
    if layer.kind == "AveragePooling2D":
        bare = not any(map(sum, pads))
        return [nn.AvgPool2d(pool, strides) if bare else CountedAverage(pads, pool, strides, size)], output
    if _symmetric(pads):
        return [nn.MaxPool2d(pool, strides, (pads[0][0], pads[1][0]))], output
    return [nn.ConstantPad2d(_torch_pads(pads), -math.inf), nn.MaxPool2d(pool, strides)], output


def _dense(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    kernel = layer.weights[0]
    inputs, units = kernel.shape
    if inputs != shape[0]:
        raise _refused(layer, "the kernel does not fit its input", f"{shape[0]} values", kernel.shape)
    # Keras applies a dense layer to an image's last axis, its channels: a 1x1 convolution
    dense = (
        nn.utils.skip_init(nn.Linear, inputs, units, bias=_with_bias(layer))
        if len(shape) == 1
        else nn.utils.skip_init(nn.Conv2d, inputs, units, 1, bias=_with_bias(layer))
    )
    _put(dense.weight, kernel.T.reshape(dense.weight.shape))
    if _with_bias(layer):
        _put(dense.bias, layer.weights[1])
    return [dense], (units, *shape[1:])


def _batch_norm(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    config, weights = layer.config, list(layer.weights)
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    norm = kind(shape[0], eps=float(config.get("epsilon", 1e-3)), momentum=1 - float(config.get("momentum", 0.99)))
    expected = bool(config.get("scale", True)) + bool(config.get("center", True)) + 2
    if len(weights) != expected or any(values.shape != (shape[0],) for values in weights):
        raise _refused(layer, "the weights do not fit", f"{expected} of {shape[0]}", [w.shape for w in weights])
    for key, parameter in (("scale", norm.weight), ("center", norm.bias)):
        if config.get(key, True):
            _put(parameter, weights.pop(0))
        else:
            parameter.requires_grad_(False)  # Keras has none: it stays 1, or 0
    _put(norm.running_mean, weights[0])
    _put(norm.running_var, weights[1])
    return [norm], shape


def _relu(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    config = layer.config
    limit, slope, threshold = config.get("max_value"), config.get("negative_slope"), config.get("threshold")
    if limit is None and not slope and not threshold:
        return [nn.ReLU()], shape
    return [ClippedRelu(None if limit is None else float(limit), float(slope or 0), float(threshold or 0))], shape


def _flatten(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    return ([HwcFlatten()] if len(shape) == 3 else []), (math.prod(shape),)


def _global_average(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    channels, _, _ = _image_shape(layer, shape)
    keepdims = bool(layer.config.get("keepdims", False))
    return [SpatialMean(keepdims)], (channels, 1, 1) if keepdims else (channels,)


def _dropout(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    return [nn.Dropout(float(layer.config.get("rate", 0.5)))], shape


def _nothing(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    return [], shape


BUILDERS: dict[str, Callable[[KerasLayer, Shape], tuple[list[nn.Module], Shape]]] = {
    "InputLayer": _nothing,
    "Conv2D": _conv,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalAveragePooling2D": _global_average,
    "Flatten": _flatten,
    "Dropout": _dropout,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "Activation": _nothing,
    "ReLU": _relu,
    "Softmax": _nothing,
}


def activation_of(layer: KerasLayer) -> str:
    """The name of the activation that ends the layer, `linear` for none.

    Raises:
        KerasFormatError: an activation outside the list, or a softmax over another axis than the classes.
    """
    if layer.kind == "Softmax":
        if layer.config.get("axis", -1) not in (-1, [-1]):
            raise _refused(layer, "a softmax over another axis", -1, layer.config.get("axis"))
        return "softmax"
    name = layer.config.get("activation") or "linear"
    if name not in ACTIVATIONS:
        raise _refused(layer, "an activation outside the list", ", ".join(ACTIVATIONS), name)
    return str(name)


def build_layer(layer: KerasLayer, shape: Shape) -> tuple[list[nn.Module], Shape]:
    """The layer without its activation.

    Args:
        shape: (C, H, W) or (F,) of one input.

    Returns:
        The modules to run in order, and the shape of their output.

    Raises:
        KerasFormatError: the layer does not fit its input.
    """
    if layer.kind not in BUILDERS:
        raise _refused(layer, "a layer outside the closed list", ", ".join(BUILDERS), layer.kind)
    return BUILDERS[layer.kind](layer, shape)
