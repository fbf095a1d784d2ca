"""NPY and NPZ against NumPy's own writer: every type of the table, both orders, all versions."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import DataKeysError, ZipError
from secure_ai.files.npy import NpyLimits, read_npy, read_npz
from secure_ai.files.open import FileBytes

LIMITS = NpyLimits()
Array = np.ndarray[Any, np.dtype[Any]]
KINDS = ["b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


def npy(array: Array, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    order=st.sampled_from("<>"),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    fortran=st.booleans(),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    seed=st.integers(0, 9),
)
def test_round_trip(
    kind: str, order: str, shape: list[int], fortran: bool, version: tuple[int, int], seed: int
) -> None:
    numbers = np.random.default_rng(seed).integers(0, 2 if kind == "b1" else 100, size=shape)
    array = np.asarray(numbers.astype(np.dtype(order + kind)), order="F" if fortran else "C")
    read = read_npy(npy(array, version), where="x.npy", limits=LIMITS)
    np.testing.assert_array_equal(read, array)
    expected = "f4" if kind == "f2" else kind
    assert read.dtype.newbyteorder("=") == np.dtype(expected)
    assert read.dtype.isnative
    assert read.flags.c_contiguous
    assert read.flags.aligned
    assert not read.flags.writeable


def test_values_survive_bit_by_bit() -> None:
    array = np.array([-0.0, 1e-45, np.inf, np.nan], np.float32)
    assert read_npy(npy(array), where="x", limits=LIMITS).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'shape': (2,), 'descr': '<f4', 'fortran_order': False}",
        "{'descr':'<f4','fortran_order':False,'shape':(2,)}",
        "{'descr': 'f4', 'fortran_order': False, 'shape': (2,), }          ",
    ],
)
def test_headers_of_other_writers(header: str) -> None:
    raw = header.encode() + b"\n"
    content = b"\x93NUMPY\1\0" + len(raw).to_bytes(2, "little") + raw + np.array([1, 2], "<f4").tobytes()
    np.testing.assert_array_equal(read_npy(content, where="x", limits=LIMITS), [1, 2])
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), [1, 2])


def test_array_limit_holds_for_an_npz_as_a_whole() -> None:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(100, np.uint8), y=np.zeros(100, np.uint8))
    file = FileBytes("d.npz", stream.getvalue())
    assert read_npz(file, limits=NpyLimits(max_array_bytes=600)).keys() == {"x", "y"}
    with pytest.raises(ZipError, match="large"):
        read_npz(file, limits=NpyLimits(max_array_bytes=300))


def test_names_are_checked_only_where_asked() -> None:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(1))
    file = FileBytes("d.npz", stream.getvalue())
    assert list(read_npz(file, limits=LIMITS)) == ["a"]
    assert list(read_npz(file, limits=LIMITS, names=["a"])) == ["a"]
    with pytest.raises(DataKeysError) as caught:
        read_npz(file, limits=LIMITS, names=["x", "y"])
    assert caught.value.expected == "['x', 'y']"
    assert caught.value.got == "['a']"
