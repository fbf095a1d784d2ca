"""The data set as a value: checked, read-only, and a digest that changes with pixels and labels and nothing else."""

import dataclasses
import hashlib
import struct
from typing import Any

import numpy as np
import pytest

from secure_ai.core.errors import (
    EmptyDataError,
    LabelError,
    NonFiniteError,
    PairCountError,
    PixelRangeError,
    SecureAIError,
    ShapeError,
)
from secure_ai.core.results import Drawn
from secure_ai.data.dataset import Dataset


def make(**changes: Any) -> Dataset:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    fields: dict[str, Any] = {"images": images, "labels": np.array([0, 1, 2, 0, 1, 2]), "name": "d", "classes": 3}
    return Dataset(**(fields | changes))


def test_fields() -> None:
    data = make()
    assert len(data) == 6
    assert data.input_shape == (1, 2, 2)
    assert data.indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.note == ""


def test_arrays_and_fields_cannot_be_changed() -> None:
    data = make()
    for array in (data.images, data.labels, data.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]


def test_digest_is_the_one_its_docstring_describes() -> None:
    data = make()
    expected = hashlib.sha256(b"secure-ai dataset 1\nuint8 (6, 1, 2, 2) int64\n")
    expected.update(bytes(range(24)))
    expected.update(struct.pack("<6q", 0, 1, 2, 0, 1, 2))
    assert data.digest == expected.hexdigest()


def test_digest_ignores_name_note_and_position() -> None:
    assert make().digest == make(name="x", note="y", indices=np.arange(6) + 10).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 4, 1)},
        {"images": np.arange(1, 25, dtype=np.uint8).reshape(6, 1, 2, 2)},
        {"images": (np.arange(24) / 255).astype(np.float32).reshape(6, 1, 2, 2)},
        {"labels": np.array([0, 1, 2, 0, 1, 1])},
    ],
    ids=["shape", "pixels", "dtype", "labels"],
)
def test_digest_changes_with(changes: dict[str, Any]) -> None:
    assert make(**changes).digest != make().digest


def test_digest_does_not_depend_on_memory_order() -> None:
    images = make().images
    assert make(images=np.asfortranarray(images)).digest == make().digest


def test_select_composes_positions() -> None:
    data = make().select(np.array([5, 3, 1]), "a").select(np.array([2, 0]), "b")
    assert data.indices.tolist() == [1, 5]
    assert data.labels.tolist() == [1, 2]
    assert data.images[0].tolist() == make().images[1].tolist()
    assert (data.note, data.name, data.classes) == ("b", "d", 3)


@pytest.mark.parametrize(
    ("own", "asked", "drawn"),
    [
        ("all", "all", "all"),
        ("all", "first", "first"),
        ("stratified", "all", "stratified"),
        ("stratified", "first", "first"),
        ("first", "stratified", "first"),
    ],
)
def test_a_part_is_drawn_no_better_than_the_whole(own: Drawn, asked: Drawn, drawn: Drawn) -> None:
    assert make(drawn=own).select(np.array([0]), "first 1", drawn=asked).drawn == drawn


@pytest.mark.parametrize("indices", [[6], [-1], [0, 6]])
def test_select_refuses_positions_outside(indices: list[int]) -> None:
    with pytest.raises(ShapeError):
        make().select(np.array(indices), "")


def test_select_refuses_nothing() -> None:
    with pytest.raises(EmptyDataError):
        make().select(np.array([], dtype=np.int64), "")


def floats(value: float) -> np.ndarray:
    images = np.full((6, 1, 2, 2), 0.5, dtype=np.float32)
    images[3, 0, 1, 1] = value
    return images


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1e-45])
def test_floats_in_range_are_accepted(value: float) -> None:
    assert make(images=floats(value)).images.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"images": np.zeros((6, 2, 2), np.uint8)}, ShapeError),
        ({"images": np.zeros((0, 1, 2, 2), np.uint8)}, EmptyDataError),
        ({"images": np.zeros((6, 1, 0, 2), np.uint8)}, ShapeError),
        ({"images": np.zeros((6, 1, 2, 2), np.float64)}, PixelRangeError),
        ({"images": np.zeros((6, 1, 2, 2), np.int8)}, PixelRangeError),
        ({"images": floats(1.0001)}, PixelRangeError),
        ({"images": floats(-1e-6)}, PixelRangeError),
        ({"images": floats(float("nan"))}, NonFiniteError),
        ({"images": floats(float("inf"))}, NonFiniteError),
        ({"images": np.zeros((5, 1, 2, 2), np.uint8)}, PairCountError),
        ({"labels": np.array([0, 1, 2, 0, 1, 3])}, LabelError),
        ({"labels": np.array([0, 1, 2, 0, 1, -1])}, LabelError),
        ({"labels": np.array([0, 1, 2, 0, 1, 2], dtype=np.int32)}, LabelError),
        ({"labels": np.eye(6, dtype=np.int64)}, LabelError),
        ({"classes": 0}, LabelError),
        ({"classes": 10**9}, LabelError),
        ({"indices": np.arange(5)}, ShapeError),
    ],
)
def test_refused(changes: dict[str, Any], error: type[SecureAIError]) -> None:
    with pytest.raises(error) as caught:
        make(**changes)
    assert caught.value.where == "d"


@pytest.mark.parametrize(("value", "hint"), [(255.0, "divide by 255"), (-2.0, "normalisation")])
def test_the_hint_names_the_likely_cause(value: float, hint: str) -> None:
    with pytest.raises(PixelRangeError) as caught:
        make(images=floats(value))
    assert hint in caught.value.hint
