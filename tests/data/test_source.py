"""Every text form of `--data` gives the data it names, and says how they were chosen."""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secure_ai.core.errors import FileKindError, FileMissingError, FormatError, UsageError
from secure_ai.data import source
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.splits import stratified_sample

LABELS = np.array([0, 1, 1, 2, 0, 1])


def fake_mnist(split: str, **_: Any) -> Dataset:
    images = np.full((20, 1, 28, 28), 1 if split == "train" else 2, np.uint8)
    return Dataset(images, np.arange(20) % 10, f"mnist:{split}", 10)


@pytest.fixture
def npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", x=np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4), y=LABELS)
    return "mine.npz"


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "load_mnist", fake_mnist)


def test_a_whole_file(npz: str) -> None:
    data = load_data(npz)
    assert (len(data), data.drawn, data.note, data.name, data.classes) == (6, "all", "", "mine.npz", 3)


@pytest.mark.parametrize(("text", "n"), [("mine.npz:4", None), ("mine.npz", 4), ("mine.npz:4", 4)])
def test_the_first_n(npz: str, text: str, n: int | None) -> None:
    data = load_data(text, n=n)
    assert data.indices.tolist() == [0, 1, 2, 3]
    assert (data.drawn, data.note) == ("first", "first 4, not a random sample")


def test_a_random_sample(npz: str) -> None:
    data = load_data(f"{npz}~3", seed=5)
    assert data.indices.tolist() == stratified_sample(LABELS, 3, 5).tolist()
    assert (data.drawn, data.note) == ("stratified", "stratified random sample, 3 of 6, seed 5")


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("mine.npz:4", 3),
        ("mine.npz~4", 4),
        ("mine.npz~4", 3),
        ("mine.npz:7", None),
        ("mine.npz~7", None),
        ("mine.npz", 7),
        ("mine.npz:0", None),
        ("mine.npz", 0),
        ("mine.npz", -1),
    ],
)
def test_numbers_that_contradict_or_do_not_fit(npz: str, text: str, n: int | None) -> None:
    with pytest.raises(UsageError):
        load_data(text, n=n)


def test_a_path_that_exists_is_taken_whole(npz: str) -> None:
    Path(npz).rename("mine~3")
    assert len(load_data("mine~3")) == 6
    assert len(load_data("mine~3:2")) == 2


@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize(
    ("text", "n", "value", "count"),
    [
        ("mnist:train", None, 1, 20),
        ("mnist:test", None, 2, 20),
        ("mnist:test:5", None, 2, 5),
        ("mnist:train~10", None, 1, 10),
        ("mnist:test", 7, 2, 7),
    ],
)
def test_mnist(text: str, n: int | None, value: int, count: int) -> None:
    data = load_data(text, n=n)
    assert (len(data), int(data.images.max()), data.name) == (count, value, text[: 10 + (value == 1)])


@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mnist", ""),
        ("mnist:", ""),
        ("mnist:tests", "mnist:test"),
        ("mnist:validation", ""),
        ("mnist:test:", "mnist:test"),
        ("mnist:test:1e3", ""),
        ("mnist:test:-5", ""),
        ("mnist:test:5:5", ""),
        ("mnsit:train", "mnist:train"),
    ],
)
def test_misspelt_names(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_data(text)
    assert hint in caught.value.hint


def test_another_split_is_refused(npz: str) -> None:
    with pytest.raises(UsageError):
        load_data(npz, split="validation")


@pytest.mark.parametrize("text", ["", "none.npz", "none/", "a\0b", "x" * 5000, "none.npz:3"])
def test_a_missing_path(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileMissingError, match="mnist:train"):
        load_data(text)


def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileKindError):
        load_data(str(tmp_path / "pipe"))


def test_an_idx_folder(tmp_path: Path) -> None:
    for kind, value in (("train", 1), ("t10k", 2)):
        (tmp_path / f"{kind}-images.idx3-ubyte").write_bytes(
            struct.pack(">4I", 2051, 2, 28, 28) + bytes([value]) * 1568
        )
        (tmp_path / f"{kind}-labels.idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 2) + b"\3\4")
    assert int(load_data(str(tmp_path)).images.max()) == 2
    assert int(load_data(str(tmp_path), split="train").images.max()) == 1
    assert len(load_data(f"{tmp_path}:1")) == 1


def test_an_image_folder(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (3, 3)).save(stream, "PNG")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(stream.getvalue())
    assert load_data(str(tmp_path)).labels.tolist() == [0, 1]


@pytest.mark.parametrize("files", [[], ["data.csv", "model.pt"]])
def test_a_folder_of_neither_kind_gets_a_list_of_what_is_understood(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(FormatError) as caught:
        load_data(str(tmp_path))
    for word in ("mnist:train", "train-images-idx3-ubyte", "npz", "sub-folder"):
        assert word in caught.value.expected


def test_d008_equal_labels_are_accepted_with_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=np.full((3, 4, 4), 9, np.uint8), y=np.array([2, 2, 2]))
    events: list[tuple[str, Mapping[str, Any]]] = []
    data = load_data(f"{file}:2", events=lambda kind, event: events.append((kind, event)))
    assert [kind for kind, _ in events] == ["data_warning", "data_loaded"]
    assert data.drawn == "first"
    assert events[0][1]["warning"] in data.note


def test_each_load_is_recorded(npz: str) -> None:
    events: list[tuple[str, Mapping[str, Any]]] = []
    data = load_data(npz, n=4, events=lambda kind, event: events.append((kind, event)))
    assert events == [("data_loaded", {"data": npz, "digest": data.digest, "n": 4, "note": data.note})]
