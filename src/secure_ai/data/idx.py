"""The IDX format of the MNIST files, plain or gzipped: header first, then exactly as many bytes as it declares.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "file formats": two zero bytes, a type code, the
number of dimensions, each dimension as a big-endian uint32, then the data in C order.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from secure_ai.core.errors import (
    EmptyDataError,
    IdxLengthError,
    IdxMagicError,
    IdxRankError,
    IdxShortError,
    LabelError,
    NonFiniteError,
    PixelRangeError,
    ShapeError,
    SizeLimitError,
)
from secure_ai.data.dataset import MAX_DATA_BYTES, Images, Labels
from secure_ai.files.boundary import refuses_with
from secure_ai.files.gz import gunzip, gunzip_head, is_gzip
from secure_ai.files.open import FileBytes

TYPE_CODES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IMAGE_TYPES = (0x08, 0x0D, 0x0E)
LABEL_TYPES = (0x08,)
MAX_HEADER_BYTES = 4 + 4 * 3


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    magic: int
    types: tuple[int, ...]
    dimensions: int


_IMAGES = _Kind("images", 2051, IMAGE_TYPES, 3)
_LABELS = _Kind("labels", 2049, LABEL_TYPES, 1)


@dataclass(frozen=True, slots=True)
class _Header:
    type_code: int
    shape: tuple[int, ...]
    size: int

    @property
    def file_bytes(self) -> int:
        return self.size + math.prod(self.shape) * np.dtype(TYPE_CODES[self.type_code]).itemsize


@refuses_with(IdxLengthError)
def read_idx_images(file: FileBytes, *, size: tuple[int, int] | None = None) -> Images:
    """Images of an IDX file.

    Args:
        file: plain or gzipped, detected by content.
        size: the (H, W) that is asked for; any by default.

    Returns:
        (N, 1, H, W): uint8, or float32 in [0, 1] where the file holds floats.

    Raises:
        IdxMagicError, IdxShortError, IdxRankError, IdxLengthError, GzipError, SizeLimitError, EmptyDataError,
        ShapeError, NonFiniteError, PixelRangeError
    """
    content, header = _open(file, _IMAGES)
    count, height, width = header.shape
    if count == 0:
        raise EmptyDataError("the file holds no images", where=file.name, expected="at least one")
    if 0 in (height, width) or (size is not None and (height, width) != size):
        expected = "H, W >= 1" if size is None else f"{size[0]}x{size[1]} pixels"
        hint = "give images of another size as FILE.npz" if size else ""
        raise ShapeError(
            "unexpected image size", where=file.name, expected=expected, got=f"{height}x{width}", hint=hint
        )
    pixels = np.frombuffer(content, dtype=TYPE_CODES[header.type_code], offset=header.size)
    pixels = pixels.reshape(count, 1, height, width)
    return pixels if header.type_code == 0x08 else _to_float32(pixels, file.name)


def _to_float32(pixels: Images, where: str) -> Images:
    low, high = float(pixels.min()), float(pixels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise NonFiniteError("pixels hold NaN or infinity", where=where, expected="finite numbers in [0, 1]")
    if low < 0.0 or high > 1.0:
        raise PixelRangeError("float pixels outside [0, 1]", where=where, expected="[0, 1]", got=f"[{low:g}, {high:g}]")
    return pixels.astype(np.float32)


@refuses_with(IdxLengthError)
def read_idx_labels(file: FileBytes, *, classes: int | None = None) -> Labels:
    """Labels of an IDX file, plain or gzipped.

    Args:
        classes: labels must lie in [0, classes); by default any byte may.

    Returns:
        (N,) int64.

    Raises:
        IdxMagicError, IdxShortError, IdxRankError, IdxLengthError, GzipError, SizeLimitError, EmptyDataError,
        LabelError
    """
    content, header = _open(file, _LABELS)
    if header.shape[0] == 0:
        raise EmptyDataError("the file holds no labels", where=file.name, expected="at least one")
    labels = np.frombuffer(content, dtype=np.uint8, offset=header.size).astype(np.int64)
    if classes is not None and int(labels.max()) >= classes:
        raise LabelError(
            "a label lies outside the classes",
            where=f"{file.name}, label {int(np.argmax(labels >= classes))}",
            expected=f"0..{classes - 1}",
            got=int(labels[labels >= classes][0]),
            hint="give data with other classes as FILE.npz",
        )
    return labels


def _open(file: FileBytes, kind: _Kind) -> tuple[bytes, _Header]:
    """The plain content, once its header is right and its length is what the header says."""
    zipped = is_gzip(file.content)
    head = gunzip_head(file.content, MAX_HEADER_BYTES, where=file.name) if zipped else file.content[:MAX_HEADER_BYTES]
    header = _parse_header(head, kind, file.name)
    declared = header.file_bytes
    if zipped and declared > MAX_DATA_BYTES:
        raise SizeLimitError("too much data", where=file.name, expected=f"<= {MAX_DATA_BYTES} bytes", got=declared)
    content = gunzip(file.content, where=file.name, max_bytes=declared + 1) if zipped else file.content
    if len(content) != declared:
        raise IdxLengthError(
            "the content is not as long as the header says",
            where=file.name,
            expected=f"{declared} bytes for {header.shape}",
            got=f"{len(content)} bytes",
        )
    return content, header


def _parse_header(head: bytes, kind: _Kind, where: str) -> _Header:
    if len(head) < 4:
        raise IdxShortError("too short for an IDX header", where=where, expected=">= 4 bytes", got=len(head))
    magic, type_code, dimensions = int.from_bytes(head[:4], "big"), head[2], head[3]
    expected = f"{kind.name}, magic number {kind.magic}"
    other = _LABELS if kind is _IMAGES else _IMAGES
    if magic == other.magic:
        raise IdxMagicError("the wrong kind of IDX file", where=where, expected=expected, got=f"{other.name}, {magic}")
    if magic >> 16 or type_code not in TYPE_CODES:
        raise IdxMagicError("not an IDX file", where=where, expected=expected, got=f"magic number {magic:#010x}")
    if type_code not in kind.types:
        raise IdxMagicError("unsupported element type", where=where, expected=expected, got=f"type {type_code:#04x}")
    if dimensions != kind.dimensions:
        got = f"{dimensions} dimensions"
        raise IdxRankError("wrong number of dimensions", where=where, expected=kind.dimensions, got=got)
    size = 4 + 4 * dimensions
    if len(head) < size:
        raise IdxShortError("too short for its dimensions", where=where, expected=f">= {size} bytes", got=len(head))
    return _Header(type_code, struct.unpack(f">{dimensions}I", head[4:size]), size)
