"""IDX files with known pixels come back exactly, plain and gzipped; a folder of them under either spelling."""

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import FileKindError, FileMissingError, UsageError
from secure_ai.data.idx import read_idx_images, read_idx_labels
from secure_ai.data.idx_folder import FILES, find_idx_file, is_idx_folder, load_idx_folder, spellings
from secure_ai.files.open import FileBytes


def image_file(pixels: np.ndarray) -> bytes:
    return struct.pack(">4I", 2051, *pixels.shape) + pixels.tobytes()


def label_file(labels: np.ndarray) -> bytes:
    return struct.pack(">2I", 2049, len(labels)) + labels.astype(np.uint8).tobytes()


def pixels_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def write_folder(folder: Path, *, spelling: int = 0, pack: bool = False) -> None:
    for number, (images, labels) in enumerate(FILES.values()):
        contents = {images: image_file(pixels_of(5, number)), labels: label_file(np.arange(5) + number)}
        for name, content in contents.items():
            (folder / spellings(name)[spelling]).write_bytes(gzip.compress(content, mtime=0) if pack else content)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_images_round_trip(count: int, height: int, width: int, packed: bool) -> None:
    pixels = np.random.default_rng(count).integers(0, 256, (count, height, width), dtype=np.uint8)
    content = image_file(pixels)
    images = read_idx_images(FileBytes("f", gzip.compress(content, mtime=0) if packed else content))
    assert images.shape == (count, 1, height, width)
    assert images.dtype == np.uint8
    assert (images[:, 0] == pixels).all()


@pytest.mark.parametrize("packed", [False, True])
def test_labels_round_trip(packed: bool) -> None:
    content = label_file(np.array([3, 0, 255]))
    labels = read_idx_labels(FileBytes("f", gzip.compress(content, mtime=0) if packed else content))
    assert labels.tolist() == [3, 0, 255]
    assert labels.dtype == np.int64


@pytest.mark.parametrize(("code", "dtype"), [(0x0D, ">f4"), (0x0E, ">f8")])
def test_float_images_become_float32(code: int, dtype: str) -> None:
    pixels = np.array([[[0.0, 0.25], [0.5, 1.0]]])
    content = bytes([0, 0, code, 3]) + struct.pack(">3I", *pixels.shape) + pixels.astype(dtype).tobytes()
    images = read_idx_images(FileBytes("f", content))
    assert images.dtype == np.float32
    assert images.tolist() == [[[[0.0, 0.25], [0.5, 1.0]]]]


def test_bytes_are_not_copied() -> None:
    content = image_file(pixels_of(2))
    images = read_idx_images(FileBytes("f", content))
    assert np.shares_memory(images, np.frombuffer(content, np.uint8))


@pytest.mark.parametrize("spelling", range(4))
@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(("split", "number"), [("train", 0), ("test", 1)])
def test_a_folder_in_any_spelling(tmp_path: Path, spelling: int, pack: bool, split: str, number: int) -> None:
    write_folder(tmp_path, spelling=spelling, pack=pack)
    events: list[tuple[str, Mapping[str, Any]]] = []
    data = load_idx_folder(tmp_path, split=split, events=lambda kind, event: events.append((kind, event)))
    assert (data.images[:, 0] == pixels_of(5, number)).all()
    assert data.labels.tolist() == (np.arange(5) + number).tolist()
    assert (data.classes, data.name) == (10, f"{tmp_path.name}:{split}")
    misnamed = pack != (spelling >= 2)
    assert [kind for kind, _ in events] == ["data_name_and_content_differ"] * (2 if misnamed else 0)


def test_the_plain_original_name_comes_first(tmp_path: Path) -> None:
    for name in reversed(spellings("t10k-images-idx3-ubyte")):
        (tmp_path / name).touch()
        assert find_idx_file(tmp_path, "t10k-images-idx3-ubyte") == name
    assert spellings("t10k-images-idx3-ubyte")[1] == "t10k-images.idx3-ubyte"


def test_what_an_idx_folder_is(tmp_path: Path) -> None:
    assert not is_idx_folder(tmp_path)
    (tmp_path / "t10k-labels.idx1-ubyte.gz").touch()
    assert is_idx_folder(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert len(load_idx_folder(tmp_path, split="test")) == 5
    with pytest.raises(FileMissingError, match="train-labels-idx1-ubyte"):
        load_idx_folder(tmp_path, split="train")


def test_another_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_idx_folder(tmp_path, split="validation")


def test_a_link_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    real = tmp_path / "t10k-images-idx3-ubyte"
    real.rename(tmp_path / "elsewhere")
    real.symlink_to("elsewhere")
    with pytest.raises(FileKindError):
        load_idx_folder(tmp_path, split="test")


def test_size_and_classes_can_be_configured(tmp_path: Path) -> None:
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(image_file(np.zeros((2, 32, 32), np.uint8)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(label_file(np.array([10, 46])))
    data = load_idx_folder(tmp_path, split="test", size=None, classes=47)
    assert data.input_shape == (1, 32, 32)
    assert data.classes == 47
