"""Exceptions end at one boundary a reader; a bug has an exit code of its own; names of files obey no terminal."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secure_ai.cli.main import run_command
from secure_ai.core.errors import EXIT_BAD_INPUT, EXIT_BUG, NpyError, ShapeError
from secure_ai.data.dataset import Dataset
from secure_ai.data.folder import load_folder
from secure_ai.files.boundary import fits_numpy, most_tensor_bytes, refuses_with
from secure_ai.files.open import FileBytes, read_file
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes
from secure_ai.files.write import write_json
from secure_ai.runs.verbs import data as data_verb

FILE = FileBytes("a.bin", b"")
MIB = 1024 * 1024


def reader(failure: Exception) -> Callable[[FileBytes], int]:
    @refuses_with(NpyError)
    def read(file: FileBytes) -> int:
        raise failure

    return read


IMPOSSIBLE = [ValueError("x"), OverflowError("x"), ZeroDivisionError(), RecursionError("x"), MemoryError(),
              UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), struct.error("x")]  # fmt: skip


@pytest.mark.parametrize("failure", IMPOSSIBLE, ids=lambda failure: type(failure).__name__)
def test_what_a_file_makes_a_reader_raise_is_a_refusal(failure: Exception) -> None:
    with pytest.raises(NpyError) as caught:
        reader(failure)(FILE)
    assert (caught.value.code, caught.value.where) == ("E_NPY", "a.bin")
    assert caught.value.__cause__ is failure, "the traceback is kept"


@pytest.mark.parametrize("failure", [ShapeError("x"), TypeError("x"), KeyError("x"), AttributeError("x")])
def test_refusals_and_bugs_pass_as_they_are(failure: Exception) -> None:
    with pytest.raises(type(failure)):
        reader(failure)(FILE)


@pytest.mark.parametrize("shape", [(0, 1 << 62, 1 << 62), (1 << 63,), (1 << 31, 1 << 31, 1 << 31, 0)])
def test_shapes_that_numpy_cannot_hold(refused: Callable[..., Any], shape: tuple[int, ...]) -> None:
    assert not fits_numpy(shape, 4)
    with pytest.raises(ValueError):  # noqa: PT011  # NumPy's own words change
        np.empty(shape, np.float32)
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]}
    header = json.dumps({"a": entry, "b": entry}).encode()
    content = len(header).to_bytes(8, "little") + header
    refused("E_SAFETENSORS", lambda: read_safetensors(FileBytes("m", content)))


@pytest.mark.parametrize("shape", [(), (0,), (0, 1 << 60), (1 << 20, 0, 1 << 20)])
def test_shapes_that_numpy_can_hold(shape: tuple[int, ...]) -> None:
    assert fits_numpy(shape, 4)
    assert np.empty(shape, np.float32).shape == shape


def test_tensors_may_share_weights_but_not_grow_without_end() -> None:
    sizes = [most_tensor_bytes(size) for size in (0, MIB, 64 * MIB, 100 * MIB, 2048 * MIB)]
    assert sizes == [MIB, 16 * MIB, 1024 * MIB, 1024 * MIB, 4096 * MIB]


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_bug_ends_with_70_its_traceback_and_nothing_for_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("\x1b[31mred\n")

    monkeypatch.setattr(data_verb, "data_show", broken)
    assert run_command(["data", "show", "x.npz", *words]) == EXIT_BUG
    out, err = capsys.readouterr()
    assert "Traceback" in err
    assert "\x1b" not in out + err
    if words:
        assert json.loads(out)["error"]["code"] == "E_BUG"
    else:
        assert "E_BUG" in err


def test_a_refusal_keeps_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["data", "show", "nowhere.npz"]) == EXIT_BAD_INPUT
    assert "Traceback" not in capsys.readouterr().err


# --- names of files ---------------------------------------------------------------------------------------------------

NAMES = [b"x\xff", b"x\x1b[31m", "x\u202e".encode(), b"x\ny"]


@pytest.mark.parametrize("name", NAMES, ids=["not-utf-8", "escape", "direction", "newline"])
def test_names_become_one_printable_line(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(path)).write_bytes(b"x")
    assert read_file(os.fsdecode(path), max_bytes=10).name.isprintable()
    images, labels = np.zeros((1, 1, 2, 2), np.uint8), np.zeros(1, np.int64)
    dataset = Dataset(images, labels, os.fsdecode(name), 1)
    write_json(tmp_path / "report.json", {"data": dataset.name})
    assert dataset.name.isprintable()


def test_a_folder_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    from PIL import Image

    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff"))
    (folder / "a").mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "a" / "0.png")
    assert load_folder(folder).name == "d\\udcff"


@pytest.mark.usefixtures("smaller_probes")
def test_names_reach_the_terminal_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path]
) -> None:
    data = tmp_path / "d\x1b[31m.npz"
    data.write_bytes(digit_files["test"].read_bytes())
    assert run_command(["data", "show", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "d\\x1b[31m.npz" in shown
    model = tmp_path / "m\x1b[31m.safetensors"
    weights = network_weights()
    model.write_bytes(safetensors_bytes(weights, {"arch": "report1-cnn"}))
    words = ["--norm", "linf", "--eps", "0.1", "--attack", "fgsm", "--n", "20"]
    assert run_command(["attack", "--model", str(model), "--data", str(data), *words]) == 3
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    assert "m\\x1b[31m.safetensors" in shown
    assert "d\\x1b[31m.npz" in shown


def network_weights() -> dict[str, np.ndarray[Any, Any]]:
    from secure_ai.models.networks.built_in import network_entry

    torch.manual_seed(0)
    return {name: tensor.numpy() for name, tensor in network_entry("report1-cnn").network().state_dict().items()}
