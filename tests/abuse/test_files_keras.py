"""Bad input D030-D045: `.keras` files, each refused with its code, nothing built; and the clean one accepted."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from secure_ai.files.hdf5 import MAX_OBJECTS, read_arrays, read_hdf5
from secure_ai.files.keras import read_keras
from secure_ai.files.open import FileBytes, read_file
from secure_ai.files.safetensors import safetensors_bytes

FIXTURE = Path(__file__).parent.parent / "files" / "fixtures" / "keras_3_15_torch.keras"
with zipfile.ZipFile(FIXTURE) as _archive:
    MEMBERS = {name: _archive.read(name) for name in _archive.namelist()}
CONFIG = json.loads(MEMBERS["config.json"])


def zipped(members: dict[str, bytes], *more: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in [*members.items(), *more]:
            archive.writestr(name, content)
    return stream.getvalue()


def without(name: str) -> bytes:
    return zipped({key: value for key, value in MEMBERS.items() if key != name})


def member(name: str, content: bytes) -> bytes:
    return zipped({**MEMBERS, name: content})


def config(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The clean file with a changed config.json."""
    value = copy.deepcopy(CONFIG)
    change(value)
    return member("config.json", json.dumps(value).encode())


def layer(index: int, **changes: Any) -> bytes:
    """The clean file with changed entries of layer `index` beside its settings."""
    return config(lambda value: value["config"]["layers"][index].update(changes))


def setting(index: int, **changes: Any) -> bytes:
    """The clean file with changed settings of layer `index`: 0 input, 1 and 4 conv, 2 norm, 9 and 11 dense."""
    return config(lambda value: value["config"]["layers"][index]["config"].update(changes))


def inserted(kind: str, module: str = "keras.layers", **settings: Any) -> bytes:
    added = {"module": module, "class_name": kind, "config": {"name": "added", **settings}, "registered_name": None}
    return config(lambda value: value["config"]["layers"].insert(2, added))


def too_large(value: dict[str, Any]) -> None:
    for index, filters in ((1, 500_000), (4, 500)):  # 9 * 500,000 * 500 weights in the second
        value["config"]["layers"][index]["config"]["filters"] = filters


LAYERS = CONFIG["config"]["layers"]
DROPOUT = LAYERS[7]
MANY = [LAYERS[0], *(dict(DROPOUT, config=dict(DROPOUT["config"], name=f"d{i}")) for i in range(300))]
K = "E_KERAS"
ROWS: dict[str, tuple[str, bytes]] = {
    "D030-lambda": (K, inserted("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wEAAA=="}})),
    "D031-builtins-exec": (K, inserted("exec", module="builtins")),
    "D031-os-getcwd": (K, inserted("getcwd", module="os")),
    "D031-unknown-package": (K, inserted("Custom", module="mypkg")),
    "D031-registered": (K, layer(1, registered_name="mypkg>Conv2D")),
    "D031-known-class-of-another-module": (K, layer(1, module="mypkg.layers")),
    "D032-unsafe-switch-as-layer": (K, inserted("enable_unsafe_deserialization", module="keras.config")),
    "D032-unsafe-switch-as-activation": (
        K,
        setting(
            1,
            activation={"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"},
        ),
    ),
    "D033-get-file-as-activation": (K, setting(1, activation="get_file")),
    "D033-tfsm-layer": (K, inserted("TFSMLayer", filepath="/tmp/x")),
    "D033-torch-module-wrapper": (K, inserted("TorchModuleWrapper", module="keras.src.utils.torch_utils")),
    "D033-string-lookup": (K, inserted("StringLookup", vocabulary="/etc/passwd")),
    "D034-name-parent": (K, setting(1, name="../../x")),
    "D034-name-10-kB": (K, setting(1, name="x" * 10_000)),
    "D034-name-nul": (K, setting(1, name="a\0b")),
    "D034-name-empty": (K, setting(1, name="")),
    "D034-name-is-a-number": (K, setting(1, name=1)),
    "D034-name-twice": (K, setting(1, name="alpha")),
    "D035-config-missing": (K, without("config.json")),
    "D035-config-not-json": (K, member("config.json", b"{not json")),
    "D035-config-is-a-list": (K, member("config.json", b"[]")),
    "D035-config-not-utf8": (K, member("config.json", b'{"\xff": 1}')),
    "D035-config-50k-deep": (K, member("config.json", b'{"a":' * 50_000 + b"1" + b"}" * 50_000)),
    "D035-config-key-twice": (K, member("config.json", b'{"module": "keras", "module": "keras"}')),
    "D035-config-2-MB": (K, member("config.json", b" " * 2_000_000 + b"{}")),
    "D035-layers-missing": (K, config(lambda value: value["config"].pop("layers"))),
    "D035-layer-is-a-number": (K, config(lambda value: value["config"]["layers"].__setitem__(1, 7))),
    "D035-settings-missing": (K, layer(1, config=None)),
    "D036-metadata-missing": (K, without("metadata.json")),
    "D036-metadata-without-version": (K, member("metadata.json", b"{}")),
    "D036-metadata-version-is-text": (K, member("metadata.json", b'{"keras_version": "../x"}')),
    "D037-weights-missing": (K, without("model.weights.h5")),
    "D037-weights-not-hdf5": (K, member("model.weights.h5", b"junk")),
    "D037-other-units": (K, setting(9, units=6)),
    "D037-no-bias": (K, setting(11, use_bias=False)),
    "D041-units-10^9": (K, setting(9, units=10**9)),
    "D041-parameters": (K, config(too_large)),
    "D041-activation": (K, setting(1, activation="hard_tanh_of_mine")),
    "D041-activations": (K, setting(1, filters=999_999)),
    "D041-units-negative": (K, setting(9, units=-1)),
    "D041-units-0": (K, setting(9, units=0)),
    "D041-units-3.5": (K, setting(9, units=3.5)),
    "D041-units-text": (K, setting(9, units="10")),
    "D041-units-true": (K, setting(9, units=True)),
    "D041-units-missing": (K, config(lambda value: value["config"]["layers"][9]["config"].pop("units"))),
    "D041-300-layers": (K, config(lambda value: value["config"].update(layers=MANY))),
    "D041-1-layer": (K, config(lambda value: value["config"].update(layers=LAYERS[:1]))),
    "D041-10^6-layers": (K, member("config.json", b'{"config":{"layers":[' + b"7," * 1_000_000 + b"7]}}")),
    "D041-input-10^9": (K, setting(0, batch_shape=[None, 10**9, 10**9, 1])),
    "D041-padding": (K, setting(1, padding="causal")),
    "D041-dilation": (K, setting(1, dilation_rate=[2, 2])),
    "D041-groups": (K, setting(1, groups=3)),
    "D041-channels-first": (K, setting(1, data_format="channels_first")),
    "D041-strides-0": (K, setting(1, strides=[0, 1])),
    "D041-kernel-of-3": (K, setting(1, kernel_size=[3, 3, 3])),
    "D041-kernel-larger-than-image": (K, setting(4, kernel_size=[9, 9])),
    "D041-softmax-axis": (K, setting(12, axis=0)),
    "D041-norm-axis": (K, setting(2, axis=1)),
    "D041-norm-epsilon": (K, setting(2, epsilon=-1)),
    "D041-renorm": (K, setting(2, renorm=True)),
    "D041-quantized": (K, setting(9, quantization_config={"class_name": "Int8"})),
    "D041-lora": (K, setting(9, lora_rank=4)),
    "D041-mixed-precision": (K, setting(9, dtype="mixed_bfloat16")),
    "D041-float16-policy": (K, setting(9, dtype={"class_name": "DTypePolicy", "config": {"name": "float16"}})),
    "D041-input-of-integers": (K, setting(0, dtype="int32")),
    "D041-input-in-the-middle": (K, inserted("InputLayer", batch_shape=[None, 12, 12, 1])),
    "D041-no-input": (K, config(lambda value: value["config"]["layers"].pop(0))),
    "D041-dense-on-an-image": (K, config(lambda value: value["config"]["layers"].pop(8))),
    "D041-functional": (K, config(lambda value: value.update(class_name="Functional"))),
    "D041-subclass": (K, config(lambda value: value.update(module="mypkg", class_name="Sequential"))),
    "D042-config-twice": ("E_ZIP", zipped(MEMBERS, ("config.jsoN", b"{}")).replace(b"config.jsoN", b"config.json")),
    "D042-extra-member": ("E_ZIP", zipped(MEMBERS, ("evil.py", b""))),
    "D042-other-member": (
        K,
        zipped({"evil.py" if name == "metadata.json" else name: c for name, c in MEMBERS.items()}),
    ),
    "D042-parent-member": ("E_ZIP", zipped({"config.json": b"{}"}, ("../../evil.py", b""))),
    "D042-assets": ("E_ZIP", zipped(MEMBERS, ("assets/vocabulary.txt", b""))),
    "D043-crc": ("E_ZIP", zipped(MEMBERS).replace(b"keras_version", b"keras_versioN", 1)),
    "D043-truncated": ("E_ZIP", FIXTURE.read_bytes()[:-200]),
    "D043-not-a-zip": ("E_ZIP", b"not a zip at all"),
    "D043-empty": ("E_ZIP", b""),
    "D044-hdf5": ("E_FORMAT", MEMBERS["model.weights.h5"]),
    "D044-torch": ("E_FORMAT", zipped({"archive/data.pkl": b"", "archive/version": b"3"})),
}


@pytest.mark.parametrize(("code", "content"), ROWS.values(), ids=ROWS.keys())
def test_bad_keras_file_is_refused(refused: Callable[..., Any], code: str, content: bytes) -> None:
    refused(code, lambda: read_keras(FileBytes("m.keras", content)))


def test_the_file_that_the_rows_are_made_from_is_accepted() -> None:
    assert len(read_keras(FileBytes("m.keras", zipped(MEMBERS))).layers) == 12


def test_d032_a_refused_file_does_not_make_the_next_one_pass(refused: Callable[..., Any]) -> None:
    for row in ("D032-unsafe-switch-as-layer", "D030-lambda"):
        refused(K, lambda row=row: read_keras(FileBytes("m.keras", ROWS[row][1])))


@pytest.mark.parametrize("compiled", [None, {"loss": {"module": "os", "class_name": "system", "config": "id"}}, 7])
def test_d045_what_the_file_says_about_compiling_is_dropped(compiled: Any) -> None:
    content = config(lambda value: value.update(compile_config=compiled))
    assert len(read_keras(FileBytes("m.keras", content)).layers) == 12


def test_d044_a_folder_is_refused(refused: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "m.keras").mkdir()
    refused("E_FILE_KIND", lambda: read_file(tmp_path / "m.keras", max_bytes=1000))


def weights(change: Callable[[h5py.File], Any]) -> bytes:
    """The clean weights file, changed through h5py."""
    stream = io.BytesIO(MEMBERS["model.weights.h5"])
    with h5py.File(stream, "r+") as file:
        change(file)
    return stream.getvalue()


KERNEL = "layers/conv2d/vars/0"


def replaced(**options: Any) -> Callable[[h5py.File], Any]:
    """A kernel made with other options."""

    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, **options)

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(3, 3, 1, 3), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(3, 3, 1, 3))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def links(file: h5py.File, link: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = link


def cycle(file: h5py.File) -> None:
    file["layers/conv2d/vars/loop"] = file["layers"]


def deep(file: h5py.File) -> None:
    file.create_group("a/" * 40 + "b")


def wide(file: h5py.File) -> None:
    for i in range(MAX_OBJECTS + 1):
        file.create_group(f"g{i}")


ONES = np.ones((3, 3, 1, 3), np.float32)
HDF5_ROWS: dict[str, tuple[str, Callable[[h5py.File], Any]]] = {
    "D037-dataset-missing": (K, lambda file: file.__delitem__(KERNEL)),
    "D037-wrong-shape": (K, replaced(data=np.ones((3, 3, 3, 1), np.float32))),
    "D037-extra-dataset": (K, lambda file: file.create_dataset("layers/conv2d/vars/2", data=ONES)),
    "D037-float64": (K, replaced(data=ONES.astype(np.float64))),
    "D037-big-endian": (K, replaced(data=ONES, dtype=">f4")),
    "D037-empty-dataset": (K, replaced(data=h5py.Empty("f4"))),
    "D038-nan": ("E_NONFINITE", replaced(data=ONES * np.nan)),
    "D038-inf": ("E_NONFINITE", replaced(data=ONES * np.inf)),
    "D039-10^7-x-10^7": (K, lambda file: file.create_dataset("layers/x/vars/0", (10**7, 10**7), "f4", chunks=(1, 1))),
    "D039-10^7-x-10^7-optimizer": (
        K,
        lambda file: file.create_dataset("optimizer/x", (10**7, 10**7), "f4", chunks=(1, 1)),
    ),
    "D040-external-storage": (K, replaced(shape=(3, 3, 1, 3), dtype="f4", external=[("/etc/passwd", 0, 108)])),
    "D040-external-link": (K, lambda file: links(file, h5py.ExternalLink("other.h5", "/x"))),
    "D040-soft-link": (K, lambda file: links(file, h5py.SoftLink("/layers/conv2d_1/vars/0"))),
    "D040-soft-link-loop": (K, lambda file: links(file, h5py.SoftLink(f"/{KERNEL}"))),
    "D040-virtual": (K, virtual),
    "D040-references": (K, lambda file: file.create_dataset("layers/x", (1,), h5py.ref_dtype)),
    "D040-text": (K, lambda file: file.create_dataset("layers/x", data="text")),
    "D040-variable-length": (K, lambda file: file.create_dataset("layers/x", (1,), h5py.vlen_dtype(np.float32))),
    "D040-record": (K, lambda file: file.create_dataset("layers/x", (1,), [("a", "f4")])),
    "D040-filter-lzf": (K, replaced(data=ONES, compression="lzf")),
    "D040-filter-scale-offset": (K, replaced(data=ONES, scaleoffset=2)),
    "D040-named-type": (K, lambda file: file.__setitem__("layers/x", np.dtype("f4"))),
    "D040-hard-link-cycle": (K, cycle),
    "D040-deep": (K, deep),
    "D040-many-groups": (K, wide),
    "D040-name": (K, lambda file: file.create_group("layers/..x")),
}


@pytest.mark.parametrize(("code", "change"), HDF5_ROWS.values(), ids=HDF5_ROWS.keys())
def test_bad_hdf5_is_refused(refused: Callable[..., Any], code: str, change: Callable[[h5py.File], Any]) -> None:
    content = weights(change)
    refused(code, lambda: read_in_process(content, ALL_EXPECTED))


def _all_expected() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    with h5py.File(io.BytesIO(MEMBERS["model.weights.h5"]), "r") as file:
        file["layers"].visititems(
            lambda name, item: found.update({f"layers/{name}": item.shape}) if isinstance(item, h5py.Dataset) else None
        )
    return found


ALL_EXPECTED = _all_expected()


def read_in_process(content: bytes, expected: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """What the child does, without the child: reading, then writing the answer, which refuses NaN."""
    arrays = read_arrays(content, expected, where="model.weights.h5")
    safetensors_bytes({f"w{i}": array for i, array in enumerate(arrays.values())}, {})
    return arrays


def test_the_weights_that_the_rows_are_made_from_are_accepted() -> None:
    assert read_in_process(weights(lambda file: None), ALL_EXPECTED).keys() == ALL_EXPECTED.keys()


def test_gzip_and_shuffle_are_accepted() -> None:
    content = weights(replaced(data=ONES, compression="gzip", shuffle=True))
    np.testing.assert_array_equal(read_in_process(content, ALL_EXPECTED)[KERNEL], ONES)


@pytest.mark.parametrize("row", ["D038-nan", "D040-external-link", "D037-wrong-shape"])
def test_a_refusal_comes_out_of_the_child_as_it_was_raised(refused: Callable[..., Any], row: str) -> None:
    code, change = HDF5_ROWS[row]
    error = refused(code, lambda: read_hdf5(weights(change), ALL_EXPECTED, where="m.keras"))
    assert error.where


def test_d038_a_layer_of_zeros_is_accepted_and_noted() -> None:
    def zero(file: h5py.File) -> None:
        file["layers/dense_1/vars/0"][:] = 0
        file["layers/dense_1/vars/1"][:] = 0

    model = read_keras(FileBytes("m.keras", member("model.weights.h5", weights(zero))))
    assert model.notes == ("every weight of layer dense is 0",)
    assert read_keras(FileBytes("m.keras", zipped(MEMBERS))).notes == ()


# --- amplification ----------------------------------------------------------------------------------------------------


def stack(*layers: tuple[str, dict[str, Any]], size: int = 224) -> bytes:
    """The configuration of a network of these layers on size x size images."""
    value = copy.deepcopy(CONFIG)
    first = copy.deepcopy(LAYERS[0])
    first["config"]["batch_shape"] = [None, size, size, 1]
    known = {entry["class_name"]: entry for entry in LAYERS}
    added = []
    for index, (kind, settings) in enumerate(layers):
        entry = copy.deepcopy(known[kind])
        entry["config"] |= settings | {"name": f"layer{index}"}
        added.append(entry)
    value["config"]["layers"] = [first, *added]
    return member("config.json", json.dumps(value).encode())


WIDE = ("Conv2D", {"filters": 2000, "kernel_size": [1, 1], "strides": [1, 1], "padding": "same"})
SLIM = ("Conv2D", {"filters": 64, "kernel_size": [1, 1], "strides": [1, 1], "padding": "same"})
DEAR = ("Conv2D", {"filters": 40, "kernel_size": [101, 101], "strides": [1, 1], "padding": "same"})
POOL = ("MaxPooling2D", {"pool_size": [1000, 1000], "strides": [1, 1], "padding": "same"})
COSTLY = {
    "one-layer": (stack(WIDE), "activations of one layer"),
    "all-layers": (stack(*[SLIM] * 30), "activations"),
    "multiply-adds": (stack(DEAR, DEAR, size=500), "multiply-adds"),
    "pooling": (stack(POOL, size=1000), "multiply-adds"),
}


@pytest.mark.parametrize(("content", "what"), COSTLY.values(), ids=COSTLY.keys())
def test_a_network_that_computes_too_much_is_refused_by_its_plan(
    refused: Callable[..., Any], content: bytes, what: str
) -> None:
    error = refused(K, lambda: read_keras(FileBytes("m.keras", content)))
    assert error.expected.endswith(f" {what}")


def test_the_plan_of_a_usual_network_is_within_its_budgets(refused: Callable[..., Any]) -> None:
    error = refused(K, lambda: read_keras(FileBytes("m.keras", stack(*[SLIM] * 10))))
    assert "weights" in error.message, "only the weights are missing"


UNWRITTEN: dict[str, dict[str, Any]] = {
    "contiguous": {"fillvalue": 1.0},
    "chunked": {"fillvalue": 1.0, "chunks": (100, 100)},
    "compressed": {"fillvalue": 1.0, "chunks": (100, 100), "compression": "gzip"},
}


@pytest.mark.parametrize("options", UNWRITTEN.values(), ids=UNWRITTEN.keys())
@pytest.mark.parametrize("written", [0, 100])
def test_values_that_the_file_does_not_store_are_refused(
    refused: Callable[..., Any], options: dict[str, Any], written: int
) -> None:
    def change(file: h5py.File) -> None:
        made = file.create_dataset("layers/x/vars/0", (1000, 1000), "f4", **options)
        if written and "chunks" in options:
            made[:written, :written] = 1

    content = weights(change)
    error = refused(K, lambda: read_in_process(content, ALL_EXPECTED | {"layers/x/vars/0": (1000, 1000)}))
    assert "stored" in error.expected
