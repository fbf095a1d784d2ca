"""`.keras` files without Keras: `config.json` against a closed list of layers, weights as plain arrays.

Keras builds what the file names and has had 12 CVEs for it since 2024; this reader builds nothing and looks names up in
one table. What the file says about compiling and about its optimizer is not looked at. Every shape, and the number of
parameters, is computed from the settings before a weight is read.

Reads files of Keras 3 (3.10 to 3.15 tested, torch and TensorFlow back ends) and of Keras 2 (`tf_keras`).
Layout of the weights: group `layers/NAME/vars`, NAME the class in snake case, numbered in the order of the layers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from secure_ai.core.errors import FormatError, JsonError, KerasFormatError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.files.archive import ZipLimits, read_zip
from secure_ai.files.boundary import refuses_with
from secure_ai.files.hdf5 import read_hdf5
from secure_ai.files.jsons import parse_json
from secure_ai.files.keras_layers import IDENTITIES, LAYERS, LayerPlan, Settings, Shape
from secure_ai.files.open import MIB, FileBytes
from secure_ai.files.sniff import Format, sniff

MAX_LAYERS = 256
MAX_PARAMETERS = 100_000_000
MAX_ACTIVATIONS = 1 << 24  # of one layer for one image: 64 MiB; 512x512 pixels with 64 channels
MAX_ALL_ACTIVATIONS = 1 << 26  # of all layers for one image; VGG-16 at 224 pixels has 15 million
MAX_MULTIPLY_ADDS = 200 * 10**9  # for one image; VGG-19 at 224 pixels needs 20
MAX_CONFIG_BYTES = 1 * MIB
_LIMITS = ZipLimits(max_members=3)
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_LAYER_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}[\w.+\-]{0,20}")
_ANY_SHAPE = {"Flatten", "Dropout", "Activation", "ReLU", "LeakyReLU", "ELU", "Rescaling", *IDENTITIES}
"""What may stand before Flatten or Reshape on images without a channel: nothing that asks which axis that is."""
FACTORY_HINT = (
    "with KERAS_BACKEND=torch set and no --model, --arch net.py:trained works for a file of your own; net.py: "
    "import keras; trained = lambda: keras.saving.load_model('FILE.keras')"
)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class KerasLayer:
    """One layer.

    Attributes:
        kind: a key of `keras_layers.LAYERS`.
        config: the settings that matter, under Keras's names; pairs (height, width) as tuples.
        weights: float32, read-only, in Keras's layout and order: Conv2D kernel (kh, kw, in, out) and bias; Dense kernel
            (in, out) and bias; BatchNormalization gamma (if `scale`), beta (if `center`), moving mean and variance.
        output_shape: without the batch, channels last.
    """

    kind: str
    name: str
    config: dict[str, Any]
    weights: tuple[Array, ...]
    output_shape: Shape


@dataclass(frozen=True, eq=False, slots=True)
class KerasModel:
    """A Sequential network.

    Attributes:
        input_shape: height, width, channels; or values of a flat input. A file that takes (height, width) images gets
            1 channel.
        layers: in order, without the InputLayer.
        keras_version: as the file says.
        notes: what a reader of the results should know, e.g. that all weights of a layer are 0.
    """

    input_shape: Shape
    layers: tuple[KerasLayer, ...]
    keras_version: str
    notes: tuple[str, ...] = ()


@refuses_with(KerasFormatError)
def read_keras(file: FileBytes, *, events: EventSink = ignore_event) -> KerasModel:
    """The network in a `.keras` file.

    Raises:
        FormatError: not a `.keras` file.
        ZipError: the archive is malformed, ambiguous or a bomb.
        KerasFormatError: a member, layer or setting outside the closed list, or weights that do not fit.
        NonFiniteError: NaN or infinity among the weights.
    """
    members = _members(file)
    version = _version(_json(members["metadata.json"], f"{file.name}: metadata.json"), file.name)
    where = f"{file.name}: config.json"
    input_shape, planned = _plan(_layers(_json(members["config.json"], where), where), where)
    paths = _weight_paths(planned)
    expected = {path: shape for parts in paths for path, shape in parts}
    arrays = read_hdf5(members["model.weights.h5"], expected, where=f"{file.name}: model.weights.h5", events=events)
    layers = tuple(
        KerasLayer(kind, name, plan.config, tuple(arrays[path] for path, _ in parts), plan.output_shape)
        for (kind, name, plan), parts in zip(planned, paths, strict=True)
    )
    notes = tuple(f"every weight of layer {layer.name} is 0" for layer in layers if _all_zero(layer))
    return KerasModel(input_shape, layers, version, notes)


def _all_zero(layer: KerasLayer) -> bool:
    return bool(layer.weights) and not any(array.any() for array in layer.weights)


def _members(file: FileBytes) -> dict[str, bytes]:
    found = sniff(file.content)
    if found in (Format.HDF5, Format.TORCH_ZIP, Format.NPZ):
        hint = "save it again as .keras with Keras 3" if found is Format.HDF5 else ""
        raise FormatError("not a .keras file", where=file.name, expected="a .keras archive", got=found, hint=hint)
    members = read_zip(file, limits=_LIMITS)
    if members.keys() != _MEMBERS:
        odd = sorted(members.keys() ^ _MEMBERS)[0]
        raise KerasFormatError("members", where=file.name, expected=", ".join(sorted(_MEMBERS)), got=f"not: {odd}")
    return members


def _json(content: bytes, where: str) -> dict[str, Any]:
    try:
        value = parse_json(content, where=where, max_bytes=MAX_CONFIG_BYTES)
    except JsonError as error:
        raise KerasFormatError(error.message, where=error.where, expected=error.expected, got=error.got) from None
    return _dict(value, where)


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise KerasFormatError("not an object", where=where, expected="{...}", got=type(value).__name__)
    return value


def _version(metadata: dict[str, Any], name: str) -> str:
    version = metadata.get("keras_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise KerasFormatError("no version", where=f"{name}: metadata.json", expected="keras_version", got=version)
    return version


def _layers(config: dict[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    """Class and settings of every layer of a Sequential."""
    if config.get("class_name") != "Sequential" or config.get("module") not in ("keras", "keras.models"):
        got = f"{config.get('module')}.{config.get('class_name')}"
        raise KerasFormatError("not a Sequential", where=where, expected="keras.Sequential", got=got, hint=FACTORY_HINT)
    inner = _dict(config.get("config"), f"{where} config")
    layers = inner.get("layers")
    if not isinstance(layers, list) or not 2 <= len(layers) <= MAX_LAYERS:
        count: int | str = len(layers) if isinstance(layers, list) else type(layers).__name__
        raise KerasFormatError("number of layers", where=where, expected=f"2 to {MAX_LAYERS}", got=count)
    return [_class(_dict(layer, f"{where} layer {i}"), f"{where} layer {i}") for i, layer in enumerate(layers)]


def _class(layer: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    module, kind = layer.get("module"), layer.get("class_name")
    known = module == "keras.layers" and isinstance(kind, str) and (kind in LAYERS or kind == "InputLayer")
    if not known or layer.get("registered_name") not in (None, kind):
        expected = "keras.layers: InputLayer, " + ", ".join(LAYERS)
        raise KerasFormatError(
            "a layer outside the closed list", where=where, expected=expected, got=f"{module}.{kind}", hint=FACTORY_HINT
        )
    return str(kind), _dict(layer.get("config"), f"{where} config")


def _plan(layers: list[tuple[str, dict[str, Any]]], where: str) -> tuple[Shape, list[tuple[str, str, LayerPlan]]]:
    """Input shape, then class, name and shapes of every further layer; the budgets are checked here."""
    names = [_name(config, where) for _, config in layers]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise KerasFormatError("two layers of one name", where=where, expected="unique names", got=repeated[0])
    first, *rest = layers
    if first[0] != "InputLayer" or any(kind == "InputLayer" for kind, _ in rest):
        raise KerasFormatError("the first layer, and only it, must be InputLayer", where=where, got=first[0])
    input_shape = _input_shape(first[1], [kind for kind, _ in rest], f"{where} {names[0]}")
    shape: Shape = input_shape
    parameters = activations = multiply_adds = 0
    planned: list[tuple[str, str, LayerPlan]] = []
    for (kind, config), name in zip(rest, names[1:], strict=True):
        settings = Settings(kind, config, f"{where} {name}")
        plan = LAYERS[kind][1](settings, shape)
        settings.finish()
        shape = plan.output_shape
        parameters += sum(math.prod(weights) for weights in plan.weight_shapes)
        activations += math.prod(shape)
        multiply_adds += math.prod(shape) * plan.per_output
        for what, got, most in (
            ("parameters", parameters, MAX_PARAMETERS),
            ("activations of one layer", math.prod(shape), MAX_ACTIVATIONS),
            ("activations", activations, MAX_ALL_ACTIVATIONS),
            ("multiply-adds", multiply_adds, MAX_MULTIPLY_ADDS),
        ):
            if got > most:
                expected = f"<= {most} {what}"
                raise KerasFormatError("the network is too large", where=settings.where, expected=expected, got=got)
        planned.append((kind, name, plan))
    return input_shape, planned


def _name(config: dict[str, Any], where: str) -> str:
    name = config.get("name")
    if not isinstance(name, str) or not _LAYER_NAME.fullmatch(name):
        raise KerasFormatError("a layer's name", where=where, expected=_LAYER_NAME.pattern, got=name)
    return name


def _input_shape(config: dict[str, Any], following: list[str], where: str) -> Shape:
    """`batch_shape` of Keras 3, `batch_input_shape` of Keras 2."""
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    sizes = shape[1:] if isinstance(shape, list) and shape[:1] == [None] else []
    if len(sizes) == 2:
        ends = [place for place, kind in enumerate(following) if kind in ("Flatten", "Reshape")]
        sizes = [*sizes, 1] if ends and set(following[: ends[0]]) <= _ANY_SHAPE else []
    if len(sizes) not in (1, 3) or any(type(size) is not int or not 1 <= size <= 65_536 for size in sizes):
        expected = "null, height, width, channels, or null and one number"
        raise KerasFormatError("the input", where=where, expected=expected, got=shape)
    if config.get("sparse") or config.get("ragged") or config.get("dtype", "float32") != "float32":
        raise KerasFormatError("the input", where=where, expected="dense float32", got=config.get("dtype"))
    return tuple(sizes)


def _weight_paths(planned: list[tuple[str, str, LayerPlan]]) -> list[list[tuple[str, Shape]]]:
    """For every layer the paths and shapes of its weights in the HDF5 file."""
    seen: Counter[str] = Counter()
    paths: list[list[tuple[str, Shape]]] = []
    for kind, _, plan in planned:
        stem = LAYERS[kind][0]
        group = stem if seen[stem] == 0 else f"{stem}_{seen[stem]}"
        seen[stem] += 1
        paths.append([(f"layers/{group}/vars/{i}", shape) for i, shape in enumerate(plan.weight_shapes)])
    return paths
