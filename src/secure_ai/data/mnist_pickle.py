"""MNIST out of a pickle, the one pickle this tool opens, and what makes that acceptable.

A pickle is a program: opening one from a stranger runs the stranger's code, and scanners that judge pickles have been
bypassed again and again. Three things together make this one acceptable. (1) Its SHA-256 is pinned here and checked
BEFORE the first opcode is read, so it is not a stranger's file but one exact file, read and judged once by the authors.
(2) Its unpickler admits three names, each replaced by a function that builds plain arrays of two element types and
nothing else; were the pin ever changed carelessly, any other name would still be refused. (3) What comes out is checked
again: the rebuilt files must have the digests of the original MNIST files. Do not copy the pattern without the pin.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import DigestMismatchError, FormatError, PickleRefusedError
from secure_ai.data.dataset import Labels

PICKLE_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
SIDE = 28
BLOCK = 10_000
_ARRAY_TYPE = object()  # stands for numpy.ndarray, so that the pickle cannot call it


def _empty_array(kind: object, shape: object, code: object) -> NDArray[Any]:
    if kind is not _ARRAY_TYPE or shape != (0,) or code != b"b":
        raise PickleRefusedError("unexpected array reconstruction", where="mnist.pkl.gz", got=(shape, code))
    return np.empty(0, dtype=np.int8)


def _dtype(name: object, align: object, copy: object) -> np.dtype[Any]:
    if name not in (b"f4", b"i8") or align or not copy:
        raise PickleRefusedError("unexpected element type", where="mnist.pkl.gz", got=name)
    # a fresh object, since the pickle sets its byte order afterwards
    return np.dtype("f4" if name == b"f4" else "i8", copy=True)


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): _dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Rebuilds float32 and int64 arrays; every other name is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for one of three names. Raises PickleRefusedError for any other."""
        if (module, name) not in _ALLOWED:
            raise PickleRefusedError("the pickle asks for a name outside the list", where=f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: object) -> Any:
        """Always refused."""
        raise PickleRefusedError("the pickle refers to an object outside itself", where="mnist.pkl.gz", got=pid)


def idx_files(content: bytes, *, sha256: str = PICKLE_SHA256) -> dict[str, bytes]:
    """The four MNIST files in IDX form, rebuilt from the gzipped pickle `content`.

    The pickle holds ((x, y), (x, y), (x, y)) for training, validation and test: 50,000 + 10,000 + 10,000 images as
    float32 (n, 784) equal to pixel / 256, and int64 labels. MNIST's training file is the first two, in order.

    Args:
        sha256: pinned digest, checked before anything is read.

    Raises:
        DigestMismatchError: not that file.
        PickleRefusedError: the pickle asks for anything but arrays.
        FormatError: an image is not pixel / 256, or an array has another form.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DigestMismatchError("not the pinned file", where="mnist.pkl.gz", expected=sha256, got=digest)
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        train, validation, test = ArrayUnpickler(stream, encoding="bytes").load()
    return {
        "train-images-idx3-ubyte": _image_file(train[0], validation[0]),
        "train-labels-idx1-ubyte": _label_file(train[1], validation[1]),
        "t10k-images-idx3-ubyte": _image_file(test[0]),
        "t10k-labels-idx1-ubyte": _label_file(test[1]),
    }


def _image_file(*parts: NDArray[np.float32]) -> bytes:
    header = struct.pack(">4I", 2051, sum(len(part) for part in parts), SIDE, SIDE)
    blocks = (part[start : start + BLOCK] for part in parts for start in range(0, len(part), BLOCK))
    return header + b"".join(_pixel_bytes(block) for block in blocks)


def _pixel_bytes(block: NDArray[np.float32]) -> bytes:
    pixels = block * np.float32(256)
    whole = pixels.astype(np.uint8) if pixels.min() >= 0 and pixels.max() <= 255 else None
    if whole is None or block.shape[1:] != (SIDE * SIDE,) or not np.array_equal(whole, pixels):
        raise FormatError("the images are not pixel / 256", where="mnist.pkl.gz")
    return whole.tobytes()


def _label_file(*parts: Labels) -> bytes:
    labels = np.concatenate(parts)
    if labels.ndim != 1 or labels.min() < 0 or labels.max() > 9:
        raise FormatError("the labels are not digits", where="mnist.pkl.gz")
    return struct.pack(">2I", 2049, len(labels)) + labels.astype(np.uint8).tobytes()
