"""The table of docs/models.md says what each kind of file gets: every row is tried."""

from __future__ import annotations

import gzip
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.core.errors import FormatError, SecureAIError
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.models.load.artifact import read_artifact
from secure_ai.models.load.store import load_model

PAGE = Path(__file__).parent.parent.parent / "docs" / "models.md"
ROW = re.compile(r"^\| ([a-z0-9.-]+) \| [^|]+ \| (read|refused)", re.MULTILINE)


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


STATE = network().state_dict()
FILES: dict[str, Callable[[], bytes]] = {
    "state-dict": lambda: saved(STATE),
    "before-1.6": lambda: saved(STATE, _use_new_zipfile_serialization=False),
    "checkpoint": lambda: saved({"net": STATE, "epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}),
    "several": lambda: saved({"model": STATE, "ema": STATE}),
    "wrapped": lambda: saved({f"module.{name}": tensor for name, tensor in STATE.items()}),
    "half": lambda: saved({name: tensor.half() for name, tensor in STATE.items()}),
    "whole-module": lambda: saved(network()),
    "bare-pickle": lambda: pickle.dumps(STATE),
    "torchscript": scripted,
    "nan": lambda: saved({**STATE, "bias": torch.full((2,), float("nan"))}),
    "safetensors": lambda: safetensors_bytes({name: tensor.numpy() for name, tensor in STATE.items()}, {}),
    "keras-h5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(100),
    "numpy": lambda: numpy_archive(),
    "onnx": lambda: b"\x08\x07\x12\x04test",
    "archive": lambda: gzip.compress(saved(STATE)),
    "unknown": lambda: b"GGUF" + bytes(100),
}
NAMED = {"keras-h5": "hdf5", "numpy": "npz", "onnx": "onnx", "archive": "gzip", "unknown": "unknown"}


def test_the_table_has_a_row_for_every_kind_that_is_tried() -> None:
    assert [row[0] for row in ROW.findall(PAGE.read_text())] == list(FILES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("kind", "result"), ROW.findall(PAGE.read_text()))
def test_each_kind_of_file_gets_what_the_table_says(tmp_path: Path, kind: str, result: str) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef build():\n    return torch.nn.Linear(3, 2)\n")
    (tmp_path / "mine.pt").write_bytes(FILES[kind]())
    try:
        loaded = load_model(tmp_path / "mine.pt", arch=f"{tmp_path / 'net.py'}:build")
    except SecureAIError:
        assert result == "refused"
    else:
        assert result == "read"
        torch.testing.assert_close(loaded.network.state_dict()["weight"], STATE["weight"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("kind", "name"), NAMED.items())
def test_a_format_that_is_known_and_not_read_is_refused_by_its_name(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "mine").write_bytes(FILES[kind]())
    with pytest.raises(FormatError) as refused:
        read_artifact(tmp_path / "mine")
    assert refused.value.got == name
