"""Bad input D015-D029 as far as the NPZ data loader meets it: wrong keys, labels, ranges, layouts, bombs, pickles."""

import io
import pickle
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_ai.core.errors import EXIT_BAD_INPUT, SecureAIError
from secure_ai.data.npz import load_npz

X = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4)
Y = np.array([0, 1])


class Canary:
    """Leaves a file behind where a pickle of it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (open, (str(self.path), "w"))


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def with_header(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(32)
    return zipped(("x.npy", array), ("y.npy", npy(Y)))


def refused(path: Path, content: bytes, *codes: str) -> SecureAIError:
    file = path / "data.npz"
    file.write_bytes(content)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(SecureAIError) as caught:
        load_npz(file)
    assert time.process_time() - start < 10
    assert tracemalloc.get_traced_memory()[1] < 64 * 1024**2
    tracemalloc.stop()
    error = caught.value
    assert error.code in codes
    assert error.exit_code == EXIT_BAD_INPUT
    assert "data.npz" in error.where
    assert "pickle.load" not in str(error)
    assert all(len(text) <= 300 and text.isprintable() for text in error.as_json().values())
    assert [entry.name for entry in path.iterdir()] == ["data.npz"]
    return error


def test_the_clean_file_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(npz(x=X, y=Y))
    assert len(load_npz(tmp_path / "data.npz")) == 2


def test_d015_object_arrays(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    refused(tmp_path, npz(x=np.array([Canary(canary)], dtype=object), y=Y), "E_NPY_OBJECT")
    refused(tmp_path, npz(x=X, y=np.array([Canary(canary)], dtype=object)), "E_NPY_OBJECT")


def test_d016_a_plain_pickle(tmp_path: Path) -> None:
    refused(tmp_path, pickle.dumps({"x": X, "y": Y, "z": Canary(tmp_path / "canary")}), "E_FORMAT")


FLOAT_X = X / 255
ROWS = [
    ("D016 text", b"x,y\n1,2\n", "E_FORMAT"),
    ("D016 a lone npy", npy(X), "E_FORMAT"),
    ("D016 empty", b"", "E_FORMAT"),
    (
        "D017 3.6 TiB",
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
        "E_SIZE_LIMIT",
    ),
    ("D018 -1", with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }"), "E_NPY"),
    (
        "D018 2**62",
        with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4611686018427387904, 4), }"),
        "E_NPY",
    ),
    ("D019 code", with_header("__import__('os').abort()"), "E_NPY"),
    ("D021 trailing bytes", zipped(("x.npy", npy(X) + b"\0"), ("y.npy", npy(Y))), "E_NPY_TRAIL"),
    (
        "D022 bomb",
        zipped(("x.npy", npy(np.zeros((40_000, 28, 28), np.uint8))), ("y.npy", npy(Y)), method=zipfile.ZIP_DEFLATED),
        "E_ZIP",
    ),
    ("D024 a path outside", zipped(("../../x.npy", npy(X)), ("y.npy", npy(Y))), "E_ZIP"),
    ("D024 an absolute path", zipped(("/x.npy", npy(X)), ("y.npy", npy(Y))), "E_ZIP"),
    ("D025 another method", zipped(("x.npy", npy(X)), ("y.npy", npy(Y)), method=zipfile.ZIP_LZMA), "E_ZIP"),
    ("D025 bytes in front", b"#!/bin/sh\n" + npz(x=X, y=Y), "E_FORMAT"),
    ("D026 complex", npz(x=X.astype(complex), y=Y), "E_NPY"),
    ("D026 text", npz(x=X, y=np.array(["0", "1"])), "E_NPY"),
    ("D026 dates", npz(x=X, y=Y.astype("M8[s]")), "E_NPY"),
    ("D026 int pixels", npz(x=X.astype(np.int64), y=Y), "E_PIXEL_RANGE"),
    ("D026 truth values for pixels", npz(x=X > 4, y=Y), "E_PIXEL_RANGE"),
    ("D027 no y", npz(x=X), "E_KEYS"),
    ("D027 no x", npz(y=Y), "E_KEYS"),
    ("D027 extra key", npz(x=X, y=Y, z=Y), "E_KEYS"),
    ("D027 capital letters", npz(X=X, Y=Y), "E_KEYS"),
    ("D027 a member that is no array", zipped(("x.npy", npy(X)), ("y.txt", b"0 1")), "E_KEYS"),
    ("D027 lengths differ", npz(x=X, y=np.array([0, 1, 2])), "E_PAIR_COUNT"),
    ("D027 one-hot", npz(x=X, y=np.eye(2, dtype=np.int64)), "E_LABEL"),
    ("D027 float labels", npz(x=X, y=np.array([0.0, 3.0])), "E_LABEL"),
    ("D027 truth values for labels", npz(x=X, y=np.array([False, True])), "E_LABEL"),
    ("D027 negative label", npz(x=X, y=np.array([0, -1])), "E_LABEL"),
    ("D027 huge label", npz(x=X, y=np.array([0, 2**62])), "E_LABEL"),
    ("D027 label beyond int64", npz(x=X, y=np.array([0, 2**64 - 1], dtype=np.uint64)), "E_LABEL"),
    ("D028 0 and 1 as uint8", npz(x=X % 2, y=Y), "E_PIXEL_RANGE"),
    ("D028 0..255 as float", npz(x=X.astype(np.float32) * 8, y=Y), "E_PIXEL_RANGE"),
    ("D028 -1", npz(x=np.where(X == 3, -1.0, FLOAT_X), y=Y), "E_PIXEL_RANGE"),
    ("D028 just above 1", npz(x=np.where(X == 3, np.nextafter(1, 2), FLOAT_X), y=Y), "E_PIXEL_RANGE"),
    ("D028 256", npz(x=np.where(X == 3, 256, X.astype(np.int16)), y=Y), "E_PIXEL_RANGE"),
    ("D028 NaN", npz(x=np.where(X == 3, np.nan, FLOAT_X), y=Y), "E_NONFINITE"),
    ("D028 infinity", npz(x=np.where(X == 3, np.inf, FLOAT_X), y=Y), "E_NONFINITE"),
    ("D028 minus infinity", npz(x=np.where(X == 3, -np.inf, FLOAT_X), y=Y), "E_NONFINITE"),
    ("D028 subnormal", npz(x=FLOAT_X * 1e-310, y=Y), "E_PIXEL_RANGE"),
    ("D029 empty x", npz(x=X[:0], y=Y[:0]), "E_EMPTY"),
    ("D029 no pixels", npz(x=X[:, :0], y=Y), "E_EMPTY"),
    ("D029 flat", npz(x=X.reshape(2, 16), y=Y), "E_SHAPE"),
    ("D029 five dimensions", npz(x=X.reshape(2, 1, 1, 4, 4), y=Y), "E_NPY"),
    ("layout (N, 3, H, 3)", npz(x=X.repeat(9)[: 2 * 3 * 4 * 3].reshape(2, 3, 4, 3), y=Y), "E_SHAPE"),
    ("layout with two channels", npz(x=X.reshape(2, 2, 2, 4), y=Y), "E_SHAPE"),
]


@pytest.mark.parametrize(("content", "code"), [pytest.param(row[1], row[2], id=row[0]) for row in ROWS])
def test_malformed_files(tmp_path: Path, content: bytes, code: str) -> None:
    refused(tmp_path, content, code)


def test_d029_no_dimensions(tmp_path: Path) -> None:
    refused(tmp_path, npz(x=np.uint8(3), y=Y), "E_NPY", "E_SHAPE")
    refused(tmp_path, npz(x=X, y=np.int64(3)), "E_NPY", "E_LABEL")


def test_d023_a_member_that_stands_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        content = zipped(("x.npy", npy(X)), ("y.npy", npy(Y)), ("y.npy", npy(Y[::-1])))
    refused(tmp_path, content, "E_ZIP")


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    for name, code in ((".", "E_FILE_KIND"), ("none.npz", "E_FILE_MISSING")):
        with pytest.raises(SecureAIError) as caught:
            load_npz(tmp_path / name)
        assert caught.value.code == code
