"""NPZ data sets: every layout and type of the tables gives the pixels that were meant."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import DataKeysError, LabelError, NpyError, PixelRangeError, SecureAIError, ShapeError
from secure_ai.data.npz import dataset_from_arrays, labels_from_array, load_npz, pixels_from_array

Y = np.array([0, 2, 1, 2])


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_comes_back_exactly(tmp_path: Path, save: Any) -> None:
    x = pixels(4, 3, 8, 9)
    save(tmp_path / "mine.npz", x=x, y=Y)
    data = load_npz(tmp_path / "mine.npz")
    assert (data.images == x).all()
    assert data.labels.tolist() == Y.tolist()
    assert (data.classes, data.name, data.note) == (3, "mine.npz", "")


def test_fortran_order_and_big_endian_give_the_same_data(tmp_path: Path) -> None:
    x = (pixels(4, 8, 9) / 255).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    np.savez(tmp_path / "b.npz", x=np.asfortranarray(x.astype(">f8")), y=Y.astype(">u2"))
    assert load_npz(tmp_path / "a.npz").digest == load_npz(tmp_path / "b.npz").digest


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(4, 9), st.integers(4, 9), st.booleans())
def test_layouts_agree(count: int, channels: int, height: int, width: int, last: bool) -> None:
    x = pixels(count, channels, height, width)
    stored = x.transpose(0, 2, 3, 1) if last else x
    assert (pixels_from_array(stored, where="x") == x).all()


def test_grey_images_may_leave_the_channel_out() -> None:
    x = pixels(4, 8, 9)
    assert (pixels_from_array(x, where="x") == x[:, np.newaxis]).all()


@pytest.mark.parametrize("shape", [(4, 3, 8, 3), (4, 1, 8, 1), (4, 3, 8, 1), (4, 1, 1, 1)])
def test_an_ambiguous_layout_is_refused_with_a_hint(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="ambiguous") as caught:
        pixels_from_array(pixels(*shape), where="x")
    assert caught.value.hint


@pytest.mark.parametrize("shape", [(4, 2, 8, 8), (4, 8, 8, 4), (4, 8), (64,)])
def test_an_unknown_layout_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="unknown layout"):
        pixels_from_array(pixels(*shape), where="x")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_become_float32(dtype: Any) -> None:
    x = (pixels(4, 8, 9) / 255).astype(dtype)
    images = pixels_from_array(x, where="x")
    assert images.dtype == np.float32
    assert (images[:, 0] == x.astype(np.float32)).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_labels_of_every_integer_type(dtype: Any) -> None:
    labels = labels_from_array(Y.astype(dtype), where="y")
    assert labels.dtype == np.int64
    assert labels.tolist() == Y.tolist()


def test_all_black_is_no_scaling_error() -> None:
    black = np.zeros((4, 8, 8))
    assert not pixels_from_array(black.astype(np.uint8), where="x").any()
    assert not pixels_from_array(black, where="x").any()


def test_a_single_grey_level_above_the_limit_is_accepted() -> None:
    x = np.zeros((4, 8, 8), np.uint8)
    x[0, 0, 0] = 2
    assert pixels_from_array(x, where="x").max() == 2


@pytest.mark.parametrize(
    ("x", "hint"),
    [
        (np.eye(4, dtype=np.uint8)[np.newaxis], "multiply by 255"),
        (np.full((1, 4, 4), 0.5 / 255), "divided by 255 twice"),
        (np.full((1, 4, 4), 1e-310), "divided by 255 twice"),
        (np.full((1, 4, 4), 200.0), "divide by 255"),
        (np.full((1, 4, 4), -0.4), "normalisation"),
        (np.full((1, 4, 4), 3), "save uint8"),
        (np.full((1, 4, 4), True), "save uint8"),
    ],
)
def test_wrong_scales_are_refused_with_the_likely_cause(x: np.ndarray, hint: str) -> None:
    with pytest.raises(PixelRangeError) as caught:
        pixels_from_array(x, where="x")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("y", "hint"),
    [(np.eye(4, dtype=np.int64), "argmax"), (Y.reshape(4, 1), "reshape"), (Y.astype(np.float64), ""), (Y > 0, "")],
)
def test_labels_are_never_guessed(y: np.ndarray, hint: str) -> None:
    with pytest.raises(LabelError) as caught:
        labels_from_array(y, where="y")
    assert hint in caught.value.hint


def test_plain_arrays_make_the_same_data_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=pixels(4, 8, 9), y=Y)
    assert dataset_from_arrays(pixels(4, 8, 9), Y, name="d").digest == load_npz(tmp_path / "a.npz").digest


@pytest.mark.parametrize("names", [("x_{}", "y_{}"), ("{}_images", "{}_labels")], ids=["Keras", "MedMNIST"])
def test_a_file_of_several_splits_gives_the_one_asked_for(tmp_path: Path, names: tuple[str, str]) -> None:
    images, labels = names
    column = Y[:, None] if "labels" in labels else Y
    train, test = pixels(4, 8, 9), pixels(4, 8, 9)[::-1]
    arrays = {images.format("train"): train, labels.format("train"): column}
    second = {images.format("test"): test, labels.format("test"): column[::-1]}
    np.savez(tmp_path / "m.npz", **arrays, **second)  # type: ignore[arg-type]  # names of arrays, not of options
    data = load_npz(tmp_path / "m.npz", split="test")
    assert (data.images[:, 0] == test).all()
    assert (data.labels.tolist(), data.name) == (Y[::-1].tolist(), "m.npz:test")
    with pytest.raises(DataKeysError):
        load_npz(tmp_path / "m.npz", split="val")
    np.savez(tmp_path / "odd.npz", **arrays, extra=column)  # type: ignore[arg-type]  # the same
    with pytest.raises(DataKeysError):
        load_npz(tmp_path / "odd.npz", split="train")


@pytest.mark.parametrize(("rows", "hint"), [([[0, 1], [1, 0]], True), ([[1, 1], [0, 0]], False)])
def test_only_rows_with_one_class_are_told_to_take_the_largest(rows: list[list[int]], hint: bool) -> None:
    with pytest.raises(LabelError) as caught:
        labels_from_array(np.array(rows), where="y")
    assert ("argmax" in caught.value.hint) is hint


def test_class_names_are_kept_and_count_the_classes(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "Ä\u202e"])
    x, y = np.full((2, 5, 5), 9, np.uint8), np.array([0, 1])
    np.savez(tmp_path / "a.npz", x=x, y=y, class_names=names)
    data = load_npz(tmp_path / "a.npz")
    assert (data.class_names, data.classes) == (("cat", "dog", "Ä\\u202e"), 3)
    np.savez(tmp_path / "big.npz", x=x, y=y, class_names=names.astype(">U7"))
    assert load_npz(tmp_path / "big.npz").class_names == data.class_names


@pytest.mark.parametrize(
    "names",
    [np.array(["one"]), np.array([["a", "b"]]), np.array([1, 2]), np.array([b"a", b"b"]), np.array(["a", None])],
)
def test_names_that_do_not_fit_are_refused(tmp_path: Path, names: Any) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((2, 5, 5), 9, np.uint8), y=np.array([0, 1]), class_names=names)
    with pytest.raises(SecureAIError):
        load_npz(tmp_path / "a.npz")


def test_text_that_is_none_is_refused(tmp_path: Path) -> None:
    names = np.array([0x110000, 65], dtype="<u4").view("<U1")
    np.savez(tmp_path / "a.npz", x=np.full((2, 5, 5), 9, np.uint8), y=np.array([0, 1]), class_names=names)
    with pytest.raises(NpyError):
        load_npz(tmp_path / "a.npz")
