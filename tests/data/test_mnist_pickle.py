"""The one pickle: its digest comes first, and without the pin it still could only build arrays."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_ai.core.errors import DigestMismatchError, FormatError, PickleRefusedError
from secure_ai.data.mnist_pickle import PICKLE_SHA256, ArrayUnpickler, idx_files


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def short(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def array_opcodes(array: np.ndarray) -> bytes:
    """The opcodes with which Python 2 pickled an array, as in the pinned file."""
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\n" + short(array.dtype.str[1:].encode()) + b"K\0K\1\x87R(K\3" + short(b"<") + b"NNNJ"
    dtype += b"\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + short(b"b") + b"\x87R"
    data = array.tobytes()
    return start + b"(K\1" + shape + dtype + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"


def packed(*pairs: tuple[np.ndarray, np.ndarray]) -> bytes:
    body = b"".join(array_opcodes(x) + array_opcodes(y) + b"\x86" for x, y in pairs)
    return gzip.compress(b"\x80\x02" + body + b"\x87.", mtime=0)


def pair(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 784)).astype(np.float32) / 256, rng.integers(0, 10, count)


def rebuild(content: bytes) -> dict[str, bytes]:
    return idx_files(content, sha256=hashlib.sha256(content).hexdigest())


def test_idx_files_are_rebuilt_exactly() -> None:
    train, validation, test = pair(7, 0), pair(3, 1), pair(2, 2)
    files = rebuild(packed(train, validation, test))
    pixels = np.concatenate([train[0], validation[0]]) * 256
    labels = np.concatenate([train[1], validation[1]])
    assert files["train-images-idx3-ubyte"] == struct.pack(">4I", 2051, 10, 28, 28) + pixels.astype("u1").tobytes()
    assert files["train-labels-idx1-ubyte"] == struct.pack(">2I", 2049, 10) + labels.astype("u1").tobytes()
    assert files["t10k-images-idx3-ubyte"][:16] == struct.pack(">4I", 2051, 2, 28, 28)
    assert files["t10k-labels-idx1-ubyte"] == struct.pack(">2I", 2049, 2) + test[1].astype("u1").tobytes()


def test_the_digest_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    content = gzip.compress(pickle.dumps(Calls(os.mkdir, str(canary))))
    with pytest.raises(DigestMismatchError) as caught:
        idx_files(content)
    assert caught.value.expected == PICKLE_SHA256
    assert not canary.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "function", [os.system, eval, subprocess.Popen, getattr, __import__, np.load, np.array, bytearray]
)
def test_every_other_name_is_refused(protocol: int, function: Any) -> None:
    content = pickle.dumps(Calls(function, "echo"), protocol=protocol)
    with pytest.raises(PickleRefusedError) as refused:
        rebuild(gzip.compress(content, mtime=0))
    assert refused.value.where.endswith(f".{function.__name__}")


def load(opcodes: bytes) -> object:
    return ArrayUnpickler(io.BytesIO(opcodes), encoding="bytes").load()


@pytest.mark.parametrize(
    "name", [b"os\nsystem", b"posix\nsystem", b"numpy\nload", b"numpy\nndarray.tofile", b"nt\nsystem"]
)
def test_names_written_by_hand_are_refused(name: bytes) -> None:
    with pytest.raises(PickleRefusedError):
        load(b"c" + name + b"\n(S'echo'\ntR.")


def test_the_array_type_itself_cannot_be_called() -> None:
    with pytest.raises(TypeError):
        load(b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.")


@pytest.mark.parametrize("name", [b"O", b"O8", b"V8", b"c8", b"S9", b"f8"])
def test_other_element_types_are_refused(name: bytes) -> None:
    with pytest.raises(PickleRefusedError, match="element type"):
        load(b"\x80\x02cnumpy\ndtype\n" + short(name) + b"K\0K\1\x87R.")


def test_other_reconstructions_are_refused() -> None:
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n"
    for arguments in (b"cnumpy\ndtype\nK\0\x85" + short(b"b"), b"cnumpy\nndarray\nK\7\x85" + short(b"b")):
        with pytest.raises(PickleRefusedError, match="reconstruction"):
            load(start + arguments + b"\x87R.")


def test_persistent_objects_are_refused() -> None:
    with pytest.raises(PickleRefusedError):
        load(b"Pfoo\n.")


def test_shared_types_are_left_alone() -> None:
    load(b"\x80\x02" + array_opcodes(np.arange(3.0, dtype=np.float32)) + b".")
    assert np.dtype("f4").isnative
    assert np.dtype("f4") is np.dtype(np.float32)


@pytest.mark.parametrize(
    "change",
    [lambda x: x + np.float32(0.001), lambda x: x * 2, lambda x: -x, lambda x: x[:, :-1], lambda x: x * np.nan],
)
def test_images_that_are_not_pixel_over_256_are_refused(change: Any) -> None:
    (x, y), clean = pair(3, 0), pair(3, 1)
    with pytest.raises(FormatError, match="pixel / 256"):
        rebuild(packed(clean, (np.ascontiguousarray(change(x)), y), clean))


@pytest.mark.parametrize("label", [10, -1, 2**40])
def test_labels_that_are_no_digits_are_refused(label: int) -> None:
    (x, y), clean = pair(3, 0), pair(3, 1)
    y[1] = label
    with pytest.raises(FormatError, match="digits"):
        rebuild(packed((x, y), clean, clean))
