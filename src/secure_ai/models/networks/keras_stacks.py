"""The built-in networks as Keras layers, and their weights in Keras's layout. No torch, no Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secure_ai.files.keras import KerasModel

Array = np.ndarray[Any, np.dtype[Any]]
Layer = tuple[str, dict[str, Any]]

INPUT_SHAPE = (28, 28, 1)


def _conv(filters: int, padding: str) -> Layer:
    sizes = {"filters": filters, "kernel_size": (3, 3), "strides": (1, 1)}
    return "Conv2D", {**sizes, "padding": padding, "activation": "relu", "use_bias": True}


def _dense(units: int, activation: str) -> Layer:
    return "Dense", {"units": units, "activation": activation, "use_bias": True}


_POOL: Layer = ("MaxPooling2D", {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"})
_FLATTEN: Layer = ("Flatten", {})

# Every setting that `files.keras` reads stands here, so that a file's layers can be compared with them.
STACKS: dict[str, tuple[Layer, ...]] = {
    "report1-cnn": (
        _conv(32, "valid"),
        _POOL,
        _conv(64, "valid"),
        _POOL,
        _FLATTEN,
        _dense(128, "relu"),
        _dense(10, "softmax"),
    ),
    "report2-cnn": (
        _conv(32, "same"),
        _conv(64, "same"),
        _POOL,
        _FLATTEN,
        _dense(128, "relu"),
        _dense(10, "linear"),
    ),
}

_LAYERS = ("conv1", "conv2", "dense1", "dense2")
# (H, W, C) of the activations that are flattened
_FLATTENED = {"report1-cnn": (5, 5, 64), "report2-cnn": (14, 14, 64)}


def built_in_of(model: KerasModel) -> str | None:
    """The built-in network with exactly these layers, with or without a last softmax, or None."""
    if model.input_shape != INPUT_SHAPE:
        return None
    found = _without_softmax([(layer.kind, layer.config) for layer in model.layers])
    return next((name for name, stack in STACKS.items() if _without_softmax(stack) == found), None)


def _without_softmax(stack: Sequence[Layer]) -> list[Layer]:
    """A last softmax is a matter of the loss, not of the network."""
    *body, (kind, config) = stack
    softmax = config.get("activation") == "softmax"
    return [*body, (kind, config | {"activation": "linear"} if softmax else config)]


def weights_to_keras(arch: str, state: Mapping[str, Array]) -> list[Array]:
    """A built-in network's state as Keras's list of weights: kernels (H, W, in, out) and (in, out), biases (out,).

    The first dense kernel's rows go from torch's flattened (C, H, W) to Keras's (H, W, C).
    """
    height, width, channels = _FLATTENED[arch]
    weights: list[Array] = []
    for name in _LAYERS:
        kernel = state[f"{name}.weight"]
        if name == "dense1":
            kernel = kernel.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(kernel), -1)
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        weights += [np.ascontiguousarray(kernel), state[f"{name}.bias"]]
    return weights


def weights_from_keras(arch: str, weights: Sequence[Array]) -> dict[str, Array]:
    """The inverse of `weights_to_keras`."""
    height, width, channels = _FLATTENED[arch]
    state: dict[str, Array] = {}
    for name, kernel, bias in zip(_LAYERS, weights[0::2], weights[1::2], strict=True):
        kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        if name == "dense1":
            kernel = kernel.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(kernel), -1)
        state |= {f"{name}.weight": np.ascontiguousarray(kernel), f"{name}.bias": bias}
    return state
