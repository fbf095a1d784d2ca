"""The tables of docs/models.md say what each kind of file gets, and which layers are read: every row is tried."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.core.errors import FormatError, SecureAIError
from secure_ai.files.keras_layers import ACTIVATIONS, ALIASES, IDENTITIES, LAYERS
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.models.load.artifact import read_artifact
from secure_ai.models.load.store import load_model

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "models.md"
FIXTURES = ROOT / "tests" / "files" / "fixtures"
ROW = re.compile(r"^\| ([a-z0-9.-]+) \| [^|]+ \| (read|refused)", re.MULTILINE)
DESCRIBES_ITSELF = ("exported", "keras", "keras-functional", "keras-h5")


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def scripted() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(network(), torch.ones(1, 3)), stream)
    return stream.getvalue()


def numpy_archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name: tensor.numpy() for name, tensor in STATE.items()})
    return stream.getvalue()


def quantised() -> bytes:
    whole = nn.Sequential(network())
    return saved(torch.ao.quantization.quantize_dynamic(whole, {nn.Linear}, dtype=torch.qint8).state_dict())


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return stream.getvalue()


def h5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["model_weights/kernel"] = [1.0]
    return stream.getvalue()


def functional() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr(
            "config.json", json.dumps({"module": "keras.src.models.functional", "class_name": "Functional"})
        )
        archive.writestr("model.weights.h5", h5())
    return stream.getvalue()


def folder(**files: bytes | dict[str, Any]) -> dict[str, bytes]:
    """Files of a folder by name, with `.` for `__`."""
    return {
        name.replace("__", "."): content if isinstance(content, bytes) else json.dumps(content).encode()
        for name, content in files.items()
    }


STATE = network().state_dict()
SAFE = safetensors_bytes({name: tensor.numpy() for name, tensor in STATE.items()}, {"format": "pt"})
WEIGHT_MAP = {"weight_map": dict.fromkeys(STATE, "a.safetensors")}
FILES: dict[str, Callable[[], bytes | dict[str, bytes]]] = {
    "safetensors": lambda: SAFE,
    "state-dict": lambda: saved(STATE),
    "before-1.6": lambda: saved(STATE, _use_new_zipfile_serialization=False),
    "tar": tar,
    "checkpoint": lambda: saved({"net": STATE, "epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}),
    "several": lambda: saved({"model": STATE, "ema": STATE}),
    "wrapped": lambda: saved({f"module.{name}": tensor for name, tensor in STATE.items()}),
    "half": lambda: saved({name: tensor.half() for name, tensor in STATE.items()}),
    "quantised": quantised,
    "whole-module": lambda: saved(network()),
    "bare-pickle": lambda: pickle.dumps(STATE),
    "torchscript": scripted,
    "nan": lambda: saved({**STATE, "bias": torch.full((2,), float("nan"))}),
    "hugging-face": lambda: folder(model__safetensors=SAFE, config__json={"id2label": {"0": "a", "1": "b"}}),
    "hugging-face-parts": lambda: folder(a__safetensors=SAFE, model__safetensors__index__json=WEIGHT_MAP),
    "hugging-face-bin": lambda: folder(pytorch_model__bin=saved(STATE)),
    "exported": lambda: (FIXTURES / "torch_2_13_any.pt2").read_bytes(),
    "keras": lambda: (FIXTURES / "keras_3_15_torch.keras").read_bytes(),
    "keras-functional": functional,
    "keras-h5": h5,
    "onnx": lambda: b"\x08\x08\x12\x07pytorch\x1a\x032.0",
    "numpy": lambda: numpy_archive(),
    "archive": lambda: gzip.compress(saved(STATE)),
    "unknown": lambda: b"GGUF" + bytes(100),
}
NAMED = {"keras-h5": "hdf5", "numpy": "npz", "onnx": "onnx", "archive": "gzip", "unknown": "unknown"}


def test_the_table_has_a_row_for_every_kind_that_is_tried() -> None:
    assert [row[0] for row in ROW.findall(PAGE.read_text())] == list(FILES)


@pytest.mark.filterwarnings("ignore")  # torch is about to move quantisation and TorchScript elsewhere
@pytest.mark.parametrize(("kind", "result"), ROW.findall(PAGE.read_text()))
def test_each_kind_of_file_gets_what_the_table_says(tmp_path: Path, kind: str, result: str) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef build():\n    return torch.nn.Linear(3, 2)\n")
    place, content = tmp_path / "mine", FILES[kind]()
    if isinstance(content, dict):
        place.mkdir()
        for name, data in content.items():
            (place / name).write_bytes(data)
    else:
        place.write_bytes(content)
    loaded, hint = None, ""
    try:
        loaded = load_model(place, arch=None if kind in DESCRIBES_ITSELF else f"{tmp_path / 'net.py'}:build")
    except SecureAIError as error:
        hint = error.hint
    assert result == ("refused" if loaded is None else "read")
    assert loaded or hint or kind == "nan"  # a way out is named, where there is one
    if loaded and kind not in DESCRIBES_ITSELF:
        torch.testing.assert_close(loaded.network.state_dict()["weight"], STATE["weight"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("kind", "name"), NAMED.items())
def test_a_format_that_is_known_and_not_read_is_refused_by_its_name(tmp_path: Path, kind: str, name: str) -> None:
    content = FILES[kind]()
    assert isinstance(content, bytes)
    (tmp_path / "mine").write_bytes(content)
    with pytest.raises(FormatError) as refused:
        read_artifact(tmp_path / "mine")
    assert refused.value.got == name


def test_the_layers_and_activations_of_the_page_are_those_that_are_read() -> None:
    rows = dict(
        re.findall(r"^\| (layers|activations|identities at inference) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    )
    listed = {name: set(re.findall(r"\w+", text)) for name, text in rows.items()}
    assert listed["identities at inference"] == {*IDENTITIES, "Dropout"}
    assert listed["layers"] | listed["identities at inference"] == {*LAYERS, "InputLayer"}
    assert listed["activations"] == {*ACTIVATIONS, *ALIASES}
