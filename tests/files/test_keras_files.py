"""`.keras` files written by four Keras versions: every layer, setting and weight is read as it was written."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from secure_ai.core.errors import ChildFailedError, KerasFormatError
from secure_ai.files import hdf5
from secure_ai.files.hdf5 import read_hdf5
from secure_ai.files.keras import KerasModel, read_keras
from secure_ai.files.open import FileBytes, read_file

FIXTURES = Path(__file__).parent / "fixtures"
FILES = sorted(FIXTURES.glob("*.keras"))


def weight_values(index: int, shape: tuple[int, ...]) -> Any:
    """The rule by which `make_keras.py` filled the fixtures."""
    spec = importlib.util.spec_from_file_location("make_keras", FIXTURES / "make_keras.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.weight_values(index, shape)


def read(path: Path) -> KerasModel:
    return read_keras(read_file(path, max_bytes=1_000_000))


CONV = {"strides": (1, 1), "kernel_size": (3, 3)}
EXPECTED: list[tuple[str, str, dict[str, Any], list[tuple[int, ...]], tuple[int, ...]]] = [
    (
        "Conv2D",
        "zeta",
        {**CONV, "filters": 3, "padding": "same", "activation": "relu", "use_bias": True},
        [(3, 3, 1, 3), (3,)],
        (12, 12, 3),
    ),
    (
        "BatchNormalization",
        "batch_normalization",
        {"epsilon": 0.001, "center": True, "scale": True},
        [(3,)] * 4,
        (12, 12, 3),
    ),
    ("MaxPooling2D", "max_pooling2d", {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"}, [], (6, 6, 3)),
    (
        "Conv2D",
        "conv2d",
        {**CONV, "filters": 2, "padding": "valid", "activation": "linear", "use_bias": False},
        [(3, 3, 3, 2)],
        (4, 4, 2),
    ),
    ("ReLU", "re_lu", {}, [], (4, 4, 2)),
    (
        "AveragePooling2D",
        "average_pooling2d",
        {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"},
        [],
        (2, 2, 2),
    ),
    ("Dropout", "dropout", {"rate": 0.2}, [], (2, 2, 2)),
    ("Flatten", "flatten", {}, [], (8,)),
    ("Dense", "alpha", {"units": 5, "activation": "relu", "use_bias": True}, [(8, 5), (5,)], (5,)),
    ("Activation", "activation", {"activation": "relu"}, [], (5,)),
    ("Dense", "dense", {"units": 4, "activation": "linear", "use_bias": True}, [(5, 4), (4,)], (4,)),
    ("Softmax", "softmax", {}, [], (4,)),
]


def test_there_is_a_fixture_of_every_writer() -> None:
    assert {read(path).keras_version for path in FILES} == {"2.21.0", "3.10.0", "3.15.1"}
    assert len(FILES) == 4


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_layers_settings_and_weights_are_read_as_written(path: Path) -> None:
    model = read(path)
    assert model.input_shape == (12, 12, 1)
    assert model.notes == ()
    assert [layer.kind for layer in model.layers] == [expected[0] for expected in EXPECTED]
    index = 0
    for layer, (kind, name, config, shapes, output) in zip(model.layers, EXPECTED, strict=True):
        assert (layer.kind, layer.config, layer.output_shape) == (kind, config, output)
        assert layer.name.startswith(name)
        assert [weight.shape for weight in layer.weights] == shapes
        for weight in layer.weights:
            assert weight.dtype == np.float32
            np.testing.assert_array_equal(weight, weight_values(index, weight.shape))
            index += 1
    assert index == 11


# --- files of our own making, for the layers and settings that the fixtures do not have -------------------------------


def layer(kind: str, **settings: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": settings, "registered_name": None}


def built(layers: list[dict[str, Any]], weights: dict[str, Any] | None = None, version: str = "3.12.0") -> FileBytes:
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    stream, archive_stream = io.BytesIO(), io.BytesIO()
    with h5py.File(stream, "w") as file:
        for path, value in (weights or {}).items():
            file[path] = np.asarray(value, np.float32)
    with zipfile.ZipFile(archive_stream, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", stream.getvalue())
    return FileBytes("made.keras", archive_stream.getvalue())


CONVOLUTION = {"filters": 4, "kernel_size": [3, 2], "activation": "linear", "use_bias": False, "name": "c"}


@pytest.mark.parametrize(
    ("padding", "strides", "expected"),
    [
        ("valid", [1, 1], (5, 7, 4)),
        ("valid", [2, 3], (3, 3, 4)),
        ("same", [1, 1], (7, 8, 4)),
        ("same", [2, 3], (4, 3, 4)),
    ],
)
def test_shapes_of_windows(padding: str, strides: list[int], expected: tuple[int, ...]) -> None:
    layers = [
        layer("InputLayer", name="i", batch_shape=[None, 7, 8, 3]),
        layer("Conv2D", **CONVOLUTION, padding=padding, strides=strides),
    ]
    model = read_keras(built(layers, {"layers/conv2d/vars/0": np.ones((3, 2, 3, 4))}))
    assert model.layers[0].output_shape == expected


def test_global_pooling_and_a_norm_without_scale() -> None:
    layers = [
        layer("InputLayer", name="i", batch_shape=[None, 4, 4, 2]),
        layer("BatchNormalization", name="b", axis=-1, epsilon=0.01, center=True, scale=False, momentum=0.9),
        layer("GlobalAveragePooling2D", name="g", data_format="channels_last", keepdims=False),
        layer("Activation", name="a", activation="softmax"),
    ]
    values = {f"layers/batch_normalization/vars/{i}": [i, i + 1] for i in range(3)}
    model = read_keras(built(layers, values))
    assert model.layers[0].config == {"epsilon": 0.01, "center": True, "scale": False}
    assert [weight.tolist() for weight in model.layers[0].weights] == [[0, 1], [1, 2], [2, 3]]
    assert [one.output_shape for one in model.layers] == [(4, 4, 2), (2,), (2,)]


def test_weights_follow_the_order_of_the_layers_and_not_their_names() -> None:
    layers = [
        layer("InputLayer", name="i", batch_shape=[None, 1, 1, 2]),
        layer("Flatten", name="f"),
        layer("Dense", name="dense_1", units=2, activation="linear", use_bias=False),
        layer("Dense", name="dense", units=2, activation="linear", use_bias=False),
        layer("Dense", name="z", units=2, activation="linear", use_bias=False),
    ]
    paths = ["layers/dense/vars/0", "layers/dense_1/vars/0", "layers/dense_2/vars/0"]
    model = read_keras(built(layers, {path: np.full((2, 2), i) for i, path in enumerate(paths)}))
    assert [one.weights[0].max() for one in model.layers[1:]] == [0, 1, 2]


def test_images_without_a_channel_get_one() -> None:
    """`keras.Sequential([Flatten(input_shape=(28, 28)), Dense(10)])`, the first example of many courses."""
    layers = [
        layer("InputLayer", name="i", batch_shape=[None, 28, 28]),
        layer("Flatten", name="f"),
        layer("Dense", name="d", units=2, activation="softmax", use_bias=False),
    ]
    weights = {"layers/dense/vars/0": np.zeros((784, 2))}
    assert read_keras(built(layers, weights)).input_shape == (28, 28, 1)
    without_flatten = [layers[0], layer("BatchNormalization", name="b", axis=-1, epsilon=0.1, center=True, scale=True)]
    with pytest.raises(KerasFormatError, match="input"):
        read_keras(built([*without_flatten, *layers[1:]], weights))


def test_a_network_without_weights_is_read() -> None:
    layers = [layer("InputLayer", name="i", batch_shape=[None, 2, 2, 1]), layer("Flatten", name="f")]
    assert read_keras(built(layers)).layers[0].output_shape == (4,)


def test_settings_that_are_off_may_be_unknown_and_others_may_not() -> None:
    first = layer("InputLayer", name="i", batch_shape=[None, 2, 2, 1])
    for value in (None, False):
        assert read_keras(built([first, layer("Flatten", name="f", new_setting=value)])).layers
    others: list[Any] = [True, 0, 1, "x", {}]
    for other in others:
        with pytest.raises(KerasFormatError) as caught:
            read_keras(built([first, layer("Flatten", name="f", new_setting=other)]))
        assert caught.value.where.endswith("f.new_setting")


FIRST = layer("InputLayer", name="i", batch_shape=[None, 4, 3, 2])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Reshape", {"target_shape": [5, 5]}),
        ("Reshape", {"target_shape": [-1, -1, 2]}),
        ("Reshape", {"target_shape": [7]}),
        ("Reshape", {"target_shape": [0, 1, 24]}),
        ("Reshape", {"target_shape": [True, 1, 24]}),
        ("ZeroPadding2D", {"padding": [[-1, 0], [0, 0]]}),
        ("ZeroPadding2D", {"padding": 1}),
        ("ZeroPadding2D", {"padding": [[10**7, 0], [0, 0]]}),
        ("Rescaling", {"scale": [1.0] * 3, "offset": 0}),
        ("Rescaling", {"scale": 1e9, "offset": 0}),
        ("Rescaling", {"scale": 1.0}),
        ("Rescaling", {"scale": {"class_name": "__numpy__"}, "offset": 0}),
        ("Normalization", {"axis": [1], "invert": False, "mean": 0.1, "variance": 1.0}),
        ("Normalization", {"axis": [-1], "invert": True, "mean": 0.1, "variance": 1.0}),
        ("Normalization", {"axis": [-1], "invert": False, "mean": 0.1, "variance": -1.0}),
        ("Normalization", {"axis": [-1], "invert": False, "mean": 0.1, "variance": None}),
        ("LeakyReLU", {"negative_slope": -0.1}),
        ("ReLU", {"max_value": 0.0}),
        ("ReLU", {"threshold": 0.5}),
        ("Activation", {"activation": "mish"}),
        ("Activation", {"activation": {"class_name": "LeakyReLU"}}),
        ("Lambda", {"function": "x"}),
    ],
)
def test_settings_out_of_range_are_refused(kind: str, settings: Any) -> None:
    with pytest.raises(KerasFormatError):
        read_keras(built([FIRST, layer(kind, name="l", **settings), layer("Flatten", name="f")]))


@pytest.mark.parametrize(
    ("kind", "settings", "output"),
    [
        ("Reshape", {"target_shape": [-1, 2, 3]}, (4, 2, 3)),
        ("ZeroPadding2D", {"padding": [[1, 0], [2, 3]]}, (5, 8, 2)),
        ("Rescaling", {"scale": [1.0, 2.0], "offset": -1}, (4, 3, 2)),
        ("Normalization", {"axis": [3], "invert": False, "mean": [0.1, 0.2], "variance": 1.0}, (4, 3, 2)),
        ("LeakyReLU", {"alpha": 0.3}, (4, 3, 2)),
        ("ReLU", {"max_value": 6.0, "threshold": 0.0}, (4, 3, 2)),
        ("Activation", {"activation": "swish"}, (4, 3, 2)),
        ("RandomRotation", {"factor": [-0.1, 0.1], "fill_mode": "reflect"}, (4, 3, 2)),
    ],
)
def test_settings_in_range_are_read(kind: str, settings: Any, output: tuple[int, ...]) -> None:
    model = read_keras(built([FIRST, layer(kind, name="l", **settings), layer("Flatten", name="f")]))
    assert model.layers[0].output_shape == output


def test_channels_first_is_refused_with_advice() -> None:
    first = layer("InputLayer", name="i", batch_shape=[None, 2, 2, 1])
    with pytest.raises(KerasFormatError) as caught:
        read_keras(built([first, layer("Flatten", name="f", data_format="channels_first")]))
    assert "channels_last" in caught.value.hint


def test_a_crash_of_the_hdf5_library_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any, **__: Any) -> bytes:
        raise ChildFailedError("the child failed", where="x", got="signal 11")

    monkeypatch.setattr(hdf5, "run_child", crash)
    with pytest.raises(KerasFormatError, match="signal 11"):
        read_hdf5(b"\x89HDF\r\n\x1a\n", {}, where="x")


def test_reading_leaves_the_config_of_the_file_alone() -> None:
    layers = [layer("InputLayer", name="i", batch_shape=[None, 2, 2, 1]), layer("Flatten", name="f")]
    before = copy.deepcopy(layers)
    read_keras(built(layers))
    assert layers == before
