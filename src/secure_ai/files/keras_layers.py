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
LARGEST = 1e6  # of a scale, an offset, a mean, a slope
ALIASES = {"swish": "silu"}
ACTIVATIONS = (
    "linear", "relu", "softmax", "sigmoid", "tanh", "gelu", "silu", "elu", "leaky_relu", "softplus", "relu6",
)  # fmt: skip
IDENTITIES = (
    "GaussianNoise", "GaussianDropout", "AlphaDropout", "SpatialDropout2D", "ActivityRegularization", "Identity",
    "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
)  # fmt: skip
"""Layers that answer what they are given, but in training; they have no weights."""
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
    "GlobalMaxPooling2D": {**_CHANNELS_LAST, "keepdims": (False,)},
    "ZeroPadding2D": _CHANNELS_LAST,
    "Normalization": {"invert": (False,)},
    "ReLU": {"threshold": (0, 0.0)},
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

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A number in [low, high]; `default` where the setting is missing or null."""
        self._seen.add(name)
        value = self._config.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.refuse(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, name: str, channels: int, low: float = -LARGEST) -> tuple[float, ...]:
        """One number, or one a channel, each in [low, LARGEST]."""
        value = self._get(name, "a number")
        values = value if isinstance(value, list) else [value]
        if len(values) not in (1, channels):
            raise self.refuse(name, f"1 or {channels} numbers")
        if any(type(part) not in (int, float) or not low <= part <= LARGEST for part in values):
            raise self.refuse(name, f"numbers from {low:g} to {LARGEST:g}")
        return tuple(map(float, values))

    def has(self, name: str) -> bool:
        """Whether the setting is there and not null."""
        return self._config.get(name) is not None

    def activation(self) -> str:
        """One of ACTIVATIONS, under the name that Keras 3 writes."""
        value = self._config.get("activation")
        if isinstance(value, str) and value in ALIASES:
            self._seen.add("activation")
            return ALIASES[value]
        return self.text("activation", ACTIVATIONS)

    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows above and below, columns left and right."""
        value = self._get("padding", "((top, bottom), (left, right))")
        pairs = value if isinstance(value, list) and len(value) == 2 else []
        flat = [part for pair in pairs if isinstance(pair, list) and len(pair) == 2 for part in pair]
        if len(flat) != 4 or any(type(part) is not int or not 0 <= part <= MAX_SIZE for part in flat):
            raise self.refuse("padding", f"((top, bottom), (left, right)), each from 0 to {MAX_SIZE}")
        return (flat[0], flat[1]), (flat[2], flat[3])

    def target(self, size: int) -> Shape:
        """What `target_shape` makes of `size` values: one -1 stands for what is left."""
        value = self._get("target_shape", "whole numbers")
        parts = value if isinstance(value, list) else []
        if len(parts) not in (1, 3) or any(type(part) is not int or not (part == -1 or part > 0) for part in parts):
            raise self.refuse("target_shape", "a vector or height, width, channels")
        known = math.prod(part for part in parts if part != -1)
        result = tuple(size // known if part == -1 else part for part in parts)
        if parts.count(-1) > 1 or math.prod(result) != size:
            raise self.refuse("target_shape", f"{size} values")
        return result

    def pass_over_all(self) -> None:
        """No setting changes what the layer answers."""
        self._seen |= self._config.keys()

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
        "activation": settings.activation(),
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
    config = {"units": units, "activation": settings.activation(), "use_bias": use_bias}
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
    return LayerPlan({"activation": settings.activation()}, shape)


def _same_shape(settings: Settings, shape: Shape) -> LayerPlan:
    return LayerPlan({}, shape)


def _identity(settings: Settings, shape: Shape) -> LayerPlan:
    settings.pass_over_all()
    return LayerPlan({}, shape)


def _relu(settings: Settings, shape: Shape) -> LayerPlan:
    config = {"negative_slope": settings.number("negative_slope", 0, LARGEST, 0.0)}
    if settings.has("max_value"):
        config["max_value"] = settings.number("max_value", 1e-6, LARGEST)
    settings.number("threshold", 0, 0, 0.0)
    plain = config == {"negative_slope": 0.0}
    return LayerPlan({} if plain else config, shape)


def _leaky_relu(settings: Settings, shape: Shape) -> LayerPlan:
    name = "alpha" if settings.has("alpha") else "negative_slope"  # Keras 2, Keras 3
    return LayerPlan({"negative_slope": settings.number(name, 0, LARGEST)}, shape)


def _elu(settings: Settings, shape: Shape) -> LayerPlan:
    return LayerPlan({"alpha": settings.number("alpha", 0, LARGEST, 1.0)}, shape)


def _rescaling(settings: Settings, shape: Shape) -> LayerPlan:
    config = {name: settings.numbers(name, shape[-1]) for name in ("scale", "offset")}
    return LayerPlan(config, shape)


def _normalization(settings: Settings, shape: Shape) -> LayerPlan:
    """Mean and variance of the last axis stand in the settings, or as weights with the number of images seen."""
    settings.last_axis("axis", shape)
    channels = shape[-1]
    if settings.has("mean") or settings.has("variance"):
        mean, variance = settings.numbers("mean", channels), settings.numbers("variance", channels, low=0.0)
        return LayerPlan({"mean": mean, "variance": variance}, shape)
    return LayerPlan({}, shape, ((channels,), (channels,), ()))


def _reshape(settings: Settings, shape: Shape) -> LayerPlan:
    return LayerPlan({}, settings.target(math.prod(shape)))


def _zero_padding(settings: Settings, shape: Shape) -> LayerPlan:
    height, width, channels = _image(shape, settings)
    rows, columns = settings.padding()
    return LayerPlan({"padding": (rows, columns)}, (height + sum(rows), width + sum(columns), channels))


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
    "ReLU": ("re_lu", _relu),
    "Softmax": ("softmax", _same_shape),
    "LeakyReLU": ("leaky_re_lu", _leaky_relu),
    "ELU": ("elu", _elu),
    "Rescaling": ("rescaling", _rescaling),
    "Normalization": ("normalization", _normalization),
    "Reshape": ("reshape", _reshape),
    "ZeroPadding2D": ("zero_padding2d", _zero_padding),
    "GlobalMaxPooling2D": ("global_max_pooling2d", _global_pool),
    **{name: (name, _identity) for name in IDENTITIES},
}
