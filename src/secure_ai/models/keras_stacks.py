"""The built-in networks as Keras layers, and their weights in Keras's layout. No torch, no Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secure_ai.files.keras import KerasModel

Array = np.ndarray[Any, Any]
Layer = tuple[str, dict[str, Any]]

INPUT_SHAPE = (28, 28, 1)

STACKS: dict[str, tuple[Layer, ...]] = {
    "report1-cnn": (
        ("Conv2D", {"filters": 32, "kernel_size": (3, 3), "activation": "relu"}),
        ("MaxPooling2D", {"pool_size": (2, 2), "strides": (2, 2)}),
        ("Conv2D", {"filters": 64, "kernel_size": (3, 3), "activation": "relu"}),
        ("MaxPooling2D", {"pool_size": (2, 2), "strides": (2, 2)}),
        ("Flatten", {}),
        ("Dense", {"units": 128, "activation": "relu"}),
        ("Dense", {"units": 10, "activation": "softmax"}),
    ),
    "report2-cnn": (
        ("Conv2D", {"filters": 32, "kernel_size": (3, 3), "padding": "same", "activation": "relu"}),
        ("Conv2D", {"filters": 64, "kernel_size": (3, 3), "padding": "same", "activation": "relu"}),
        ("MaxPooling2D", {"pool_size": (2, 2), "strides": (2, 2)}),
        ("Flatten", {}),
        ("Dense", {"units": 128, "activation": "relu"}),
        ("Dense", {"units": 10, "activation": "linear"}),
    ),
}

# What a layer must agree in to be one of the built-in networks; the values are Keras's defaults.
_SIGNIFICANT: dict[str, dict[str, Any]] = {
    "Conv2D": {
        "filters": None,
        "kernel_size": None,
        "strides": (1, 1),
        "padding": "valid",
        "dilation_rate": (1, 1),
        "groups": 1,
        "activation": "linear",
        "use_bias": True,
        "data_format": "channels_last",
    },
    "MaxPooling2D": {"pool_size": None, "strides": None, "padding": "valid", "data_format": "channels_last"},
    "Flatten": {"data_format": "channels_last"},
    "Dense": {"units": None, "activation": "linear", "use_bias": True},
}

_LAYERS = ("conv1", "conv2", "dense1", "dense2")
# (H, W, C) of the activations that are flattened
_FLATTENED = {"report1-cnn": (5, 5, 64), "report2-cnn": (14, 14, 64)}


def _signature(kind: str, config: Mapping[str, Any]) -> tuple[object, ...]:
    values = [config.get(key, default) for key, default in _SIGNIFICANT[kind].items()]
    return (kind, *(tuple(value) if isinstance(value, list) else value for value in values))


def _signatures(layers: Sequence[Layer]) -> list[tuple[object, ...]] | None:
    """None where a layer occurs that no built-in network has. A last softmax is a matter of the loss."""
    if not layers or any(kind not in _SIGNIFICANT for kind, _ in layers):
        return None
    *body, (kind, config) = layers
    last = dict(config) | ({"activation": "linear"} if config.get("activation") == "softmax" else {})
    return [_signature(*layer) for layer in [*body, (kind, last)]]


def built_in_of(model: KerasModel) -> str | None:
    """The built-in network with exactly these layers (with or without a last softmax), or None."""
    if model.input_shape != INPUT_SHAPE:
        return None
    found = _signatures([(layer.kind, dict(layer.config)) for layer in model.layers if layer.kind != "InputLayer"])
    return next((name for name, stack in STACKS.items() if found is not None and _signatures(stack) == found), None)


def weights_to_keras(arch: str, state: Mapping[str, Array]) -> list[Array]:
    """A built-in network's state as Keras's list of weights: kernels (H, W, in, out) and (in, out), biases.

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
