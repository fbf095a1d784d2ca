"""The closed list of Keras layers: which settings are read, which must have one value, and what shapes follow.

Settings that do not change what a trained network answers (initialisers, regularisers, constraints, seeds, ...) are
passed over; a setting that is not known must be null or false, its "off". Sources: `get_config` of Keras 2.21 and 3.10
to 3.15, and the shape rules of the Keras layer reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.core.errors import KerasFormatError

MAX_SIZE = 1_000_000
ACTIVATIONS = ("linear", "relu", "softmax")
Shape = tuple[int, ...]

_PASSED_OVER = {"name", "trainable", "dtype", "seed", "noise_shape", "momentum", "synchronized", "renorm_momentum"}
_PASSED_OVER_ENDINGS = ("_initializer", "_regularizer", "_constraint")
_CHANNELS_LAST = {"data_format": ("channels_last", None)}
# Layer -> setting -> the values it may have.
_FIXED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "Conv2D": {**_CHANNELS_LAST, "dilation_rate": ([1, 1], 1), "groups": (1,)},
    "MaxPooling2D": _CHANNELS_LAST,
    "AveragePooling2D": _CHANNELS_LAST,
    "GlobalAveragePooling2D": {**_CHANNELS_LAST, "keepdims": (False,)},
    "Flatten": _CHANNELS_LAST,
    "ReLU": {"max_value": (None,), "negative_slope": (0, 0.0), "threshold": (0, 0.0)},
    "Softmax": {"axis": (-1, [-1])},
}


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """What a layer does to shapes.

    Attributes:
        config: the settings that were read, under Keras's names; pairs as tuples.
        output_shape: without the batch.
        weight_shapes: in Keras's order.
        per_output: multiply-adds, or values compared or added up, for one value of the result.
    """

    config: dict[str, Any]
    output_shape: Shape
    weight_shapes: tuple[Shape, ...] = ()
    per_output: int = 1


class Settings:
    """The `config` of one layer, read key by key; `finish` refuses what nobody asked for."""

    def __init__(self, kind: str, config: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._config = config
        self._seen: set[str] = set()
        for name, allowed in _FIXED.get(kind, {}).items():
            if name in config:
                self._one_of(name, allowed)

    def _get(self, name: str, expected: str) -> Any:
        self._seen.add(name)
        if name not in self._config:
            raise KerasFormatError("a setting is missing", where=f"{self.where}.{name}", expected=expected)
        return self._config[name]

    def refuse(self, name: str, expected: object) -> KerasFormatError:
        """The error for a setting outside what is supported."""
        got = self._config.get(name)
        hint = "save the model with channels_last" if name == "data_format" else ""
        return KerasFormatError(
            "an unsupported setting", where=f"{self.where}.{name}", expected=expected, got=got, hint=hint
        )

    def _one_of(self, name: str, allowed: tuple[Any, ...]) -> Any:
        value = self._get(name, str(allowed[0]))
        if not any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in allowed):
            raise self.refuse(name, " or ".join(str(choice) for choice in allowed))
        return value

    def text(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of `allowed`."""
        return str(self._one_of(name, allowed))

    def flag(self, name: str) -> bool:
        """True or false."""
        return bool(self._one_of(name, (True, False)))

    def size(self, name: str) -> int:
        """A whole number from 1 to MAX_SIZE."""
        value = self._get(name, "a whole number")
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise self.refuse(name, f"a whole number from 1 to {MAX_SIZE}")
        return value

    def pair(self, name: str) -> tuple[int, int]:
        """Two whole numbers from 1 to MAX_SIZE: height, width."""
        value = self._get(name, "two whole numbers")
        if not isinstance(value, list) or len(value) != 2:
            raise self.refuse(name, "two whole numbers")
        if any(type(part) is not int or not 1 <= part <= MAX_SIZE for part in value):
            raise self.refuse(name, f"two whole numbers from 1 to {MAX_SIZE}")
        return value[0], value[1]

    def fraction(self, name: str) -> float:
        """A number from 0 to 1."""
        value = self._get(name, "a number")
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise self.refuse(name, "a number from 0 to 1")
        return float(value)

    def last_axis(self, name: str, shape: Shape) -> None:
        """The channel axis must be the last one; Keras 2 writes it as a list."""
        self._one_of(name, (-1, [-1], len(shape), [len(shape)]))

    def finish(self) -> None:
        """Refuse a setting that is neither read nor passed over, unless it is off."""
        self._get("name", "a name")
        if "dtype" in self._config:
            _check_dtype(self._config["dtype"], self)
        for name, value in self._config.items():
            known = name in self._seen | _PASSED_OVER or name.endswith(_PASSED_OVER_ENDINGS)
            if not known and value is not None and value is not False:
                raise self.refuse(name, "a setting of the closed list")


def _check_dtype(value: Any, settings: Settings) -> None:
    """`"float32"`, or Keras 3's policy of that name."""
    if isinstance(value, dict) and value.get("class_name") == "DTypePolicy" and isinstance(value.get("config"), dict):
        value = value["config"].get("name")
    if value != "float32":
        raise settings.refuse("dtype", "float32")


def _image(shape: Shape, settings: Settings) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise KerasFormatError(
            "the layer needs an image", where=settings.where, expected="height, width, channels", got=shape
        )
    return shape[0], shape[1], shape[2]


def _window(sizes: Shape, window: Shape, strides: Shape, padding: str, settings: Settings) -> Shape:
    if padding == "same":
        return tuple(-(-size // stride) for size, stride in zip(sizes, strides, strict=True))
    result = tuple((n - k) // stride + 1 for n, k, stride in zip(sizes, window, strides, strict=True))
    if min(result) < 1:
        raise KerasFormatError("the window is larger than the image", where=settings.where, expected=sizes, got=window)
    return result


def _conv(settings: Settings, shape: Shape) -> LayerPlan:
    *sizes, channels = _image(shape, settings)
    filters, kernel, strides = settings.size("filters"), settings.pair("kernel_size"), settings.pair("strides")
    padding, use_bias = settings.text("padding", ("valid", "same")), settings.flag("use_bias")
    config = {
        "filters": filters,
        "kernel_size": kernel,
        "strides": strides,
        "padding": padding,
        "activation": settings.text("activation", ACTIVATIONS),
        "use_bias": use_bias,
    }
    weights: tuple[Shape, ...] = ((*kernel, channels, filters), (filters,))
    output = (*_window(tuple(sizes), kernel, strides, padding, settings), filters)
    return LayerPlan(config, output, weights if use_bias else weights[:1], math.prod(kernel) * channels)


def _pool(settings: Settings, shape: Shape) -> LayerPlan:
    *sizes, channels = _image(shape, settings)
    window, strides = settings.pair("pool_size"), settings.pair("strides")
    padding = settings.text("padding", ("valid", "same"))
    config = {"pool_size": window, "strides": strides, "padding": padding}
    output = (*_window(tuple(sizes), window, strides, padding, settings), channels)
    return LayerPlan(config, output, (), math.prod(window))


def _global_pool(settings: Settings, shape: Shape) -> LayerPlan:
    return LayerPlan({}, _image(shape, settings)[2:])


def _flatten(settings: Settings, shape: Shape) -> LayerPlan:
    return LayerPlan({}, (math.prod(shape),))


def _dropout(settings: Settings, shape: Shape) -> LayerPlan:
    return LayerPlan({"rate": settings.fraction("rate")}, shape)


def _dense(settings: Settings, shape: Shape) -> LayerPlan:
    if len(shape) != 1:
        hint = "put Flatten or GlobalAveragePooling2D before it"
        raise KerasFormatError("Dense on an image", where=settings.where, expected="a vector", got=shape, hint=hint)
    units, use_bias = settings.size("units"), settings.flag("use_bias")
    config = {"units": units, "activation": settings.text("activation", ACTIVATIONS), "use_bias": use_bias}
    weights: tuple[Shape, ...] = ((*shape, units), (units,))
    return LayerPlan(config, (units,), weights if use_bias else weights[:1], shape[0])


def _batch_norm(settings: Settings, shape: Shape) -> LayerPlan:
    settings.last_axis("axis", shape)
    config = {
        "epsilon": settings.fraction("epsilon"),
        "center": settings.flag("center"),
        "scale": settings.flag("scale"),
    }
    count = 2 + config["center"] + config["scale"]  # gamma, beta, moving mean, moving variance
    return LayerPlan(config, shape, (shape[-1:],) * int(count))


def _activation(settings: Settings, shape: Shape) -> LayerPlan:
    return LayerPlan({"activation": settings.text("activation", ACTIVATIONS)}, shape)


def _same_shape(settings: Settings, shape: Shape) -> LayerPlan:
    return LayerPlan({}, shape)


# Class in config.json -> its name in the weights file, and its rule.
LAYERS: Mapping[str, tuple[str, Callable[[Settings, Shape], LayerPlan]]] = {
    "Conv2D": ("conv2d", _conv),
    "MaxPooling2D": ("max_pooling2d", _pool),
    "AveragePooling2D": ("average_pooling2d", _pool),
    "GlobalAveragePooling2D": ("global_average_pooling2d", _global_pool),
    "Flatten": ("flatten", _flatten),
    "Dropout": ("dropout", _dropout),
    "Dense": ("dense", _dense),
    "BatchNormalization": ("batch_normalization", _batch_norm),
    "Activation": ("activation", _activation),
    "ReLU": ("re_lu", _same_shape),
    "Softmax": ("softmax", _same_shape),
}
