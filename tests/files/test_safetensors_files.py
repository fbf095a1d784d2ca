"""Safetensors against the library that defines the format, in both directions; and what our writer adds to it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import NonFiniteError, SafetensorsError
from secure_ai.files.open import FileBytes
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = ["<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "|u1", "|b1"]
NAMES = st.text("abcXYZ019_.", min_size=1, max_size=128)
SHAPES = st.lists(st.integers(0, 4), max_size=4)


def made(kind: str, shape: list[int], seed: int) -> Array:
    numbers = np.random.default_rng(seed).integers(0, 2 if kind == "|b1" else 100, size=shape)
    return np.asarray(numbers).astype(np.dtype(kind))


TENSORS = st.dictionaries(
    NAMES, st.builds(made, st.sampled_from(KINDS), SHAPES, st.integers(0, 9)), min_size=1, max_size=6
)
METADATA = st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5)


def same(one: dict[str, Array], other: dict[str, Array]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


@settings(max_examples=80, deadline=None)
@given(TENSORS, METADATA)
def test_round_trip(tensors: dict[str, Array], metadata: dict[str, str]) -> None:
    content = safetensors_bytes(tensors, metadata)
    read = read_safetensors(FileBytes("m", content))
    assert same(read.tensors, tensors)
    assert read.metadata == metadata
    assert all(not array.flags.writeable and array.flags.aligned for array in read.tensors.values())
    assert same(safetensors.numpy.load(content), tensors), "the library reads what we write"
    assert safetensors_bytes(dict(reversed(tensors.items())), metadata) == content, "order of names does not matter"


@settings(max_examples=40, deadline=None)
@given(TENSORS, METADATA)
def test_reads_what_the_library_writes(tensors: dict[str, Array], metadata: dict[str, str]) -> None:
    content = safetensors.numpy.save(tensors, metadata)
    read = read_safetensors(FileBytes("m", content))
    assert same(read.tensors, tensors)
    assert read.metadata == metadata


def test_same_bytes_in_every_process() -> None:
    """The library alone writes metadata in an order that changes from process to process."""
    code = (
        "import hashlib, numpy; from secure_ai.files.safetensors import safetensors_bytes\n"
        "metadata = {str(i): 'x' for i in range(20)}\n"
        "print(hashlib.sha256(safetensors_bytes({'a': numpy.zeros(3)}, metadata)).hexdigest())"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(runs) == 1


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3).T, np.arange(12.0)[::2], np.asfortranarray(np.eye(3, 2))]
)
def test_arrays_that_are_not_contiguous_are_written_as_they_read(array: Array) -> None:
    """The library writes their memory as it lies (0.8.0), which is another array."""
    read = read_safetensors(FileBytes("m", safetensors_bytes({"a": array}, {}))).tensors["a"]
    np.testing.assert_array_equal(read, array)


def test_big_endian_arrays_keep_their_values() -> None:
    array = np.arange(4, dtype=">f4")
    read = read_safetensors(FileBytes("m", safetensors_bytes({"a": array}, {}))).tensors["a"]
    np.testing.assert_array_equal(read, [0, 1, 2, 3])


def test_bfloat16_becomes_float32_of_the_same_value() -> None:
    tensor = torch.tensor([1.0, -2.5, 3e38, 1e-40, -0.0], dtype=torch.bfloat16)
    read = read_safetensors(FileBytes("m", safetensors.torch.save({"a": tensor}))).tensors["a"]
    assert read.dtype == np.float32
    assert read.tobytes() == tensor.float().numpy().tobytes()


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({}, {}),
        ({"../x": np.zeros(1)}, {}),
        ({"": np.zeros(1)}, {}),
        ({"a": np.zeros(1, complex)}, {}),
        ({"a": np.array(["text"])}, {}),
        ({"a": np.array([None])}, {}),
        ({"a": np.zeros(1)}, {"k": 1}),
    ],
)
def test_what_the_reader_would_refuse_is_not_written(tensors: dict[str, Array], metadata: Any) -> None:
    with pytest.raises(SafetensorsError):
        safetensors_bytes(tensors, metadata)


def test_nan_is_not_written() -> None:
    with pytest.raises(NonFiniteError) as caught:
        safetensors_bytes({"a": np.array([1, np.nan])}, {})
    assert caught.value.where.endswith(" a")
