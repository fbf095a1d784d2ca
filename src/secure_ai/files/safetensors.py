"""Strict safetensors: the whole header is judged before any array exists; then arrays are views of the file's bytes.

Stricter than the library (0.8), which takes a space before the header, keys that stand twice, unknown fields, names
such as `../../x`, an empty header, NaN weights, and 200,000 empty tensors. Source: the format's description in the
safetensors README ("entirely indexed, and cannot contain holes").
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secure_ai.core.errors import JsonError, NonFiniteError, SafetensorsError
from secure_ai.files.boundary import fits_numpy, refuses_with
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, FileBytes

MAX_HEADER_BYTES = 1 * MIB
MAX_TENSORS = 4096
MAX_DIMENSIONS = 16
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.]{1,128}")
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}
# In the file -> in NumPy. BF16 has no NumPy type: its bits are the upper half of a float32.
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class SafetensorsContent:
    """Tensors by name, read-only, in the order of their bytes; and the file's own metadata."""

    tensors: dict[str, Array]
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@refuses_with(SafetensorsError)
def read_safetensors(file: FileBytes) -> SafetensorsContent:
    """Every tensor of a file; BF16 becomes float32.

    Raises:
        SafetensorsError: a rule of the format, or of this reader, is broken.
        NonFiniteError: NaN or infinity among the weights.
    """
    content, where = file.content, file.name
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > MAX_HEADER_BYTES or 8 + length > len(content):
        limit = f"8 bytes, then a header of at most {MAX_HEADER_BYTES} bytes inside the file"
        raise SafetensorsError("no usable header", where=where, expected=limit, got=length)
    header = _header(content[8 : 8 + length], where)
    metadata = _metadata(header.pop(_METADATA, {}), where)
    if not 1 <= len(header) <= MAX_TENSORS:
        raise SafetensorsError("number of tensors", where=where, expected=f"1 to {MAX_TENSORS}", got=len(header))
    entries = sorted((_entry(name, value, where) for name, value in header.items()), key=lambda e: (e.start, e.end))
    _refuse_holes(entries, len(content) - 8 - length, where)
    return SafetensorsContent({entry.name: _tensor(content, 8 + length, entry, where) for entry in entries}, metadata)


def _header(raw: bytes, where: str) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise SafetensorsError("the header does not begin with {", where=where, got=raw[:8])
    try:
        header = parse_json(raw, where=f"{where} header", max_bytes=MAX_HEADER_BYTES, max_depth=4)
    except JsonError as error:
        raise SafetensorsError(
            f"the header: {error.message}", where=error.where, expected=error.expected, got=error.got
        ) from None
    if not isinstance(header, dict):
        raise SafetensorsError("the header is not an object", where=where)
    return header


def _metadata(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise SafetensorsError("metadata is not text by name", where=f"{where} {_METADATA}", expected="text values")
    return value


def _entry(name: str, value: Any, where: str) -> _Entry:
    if not TENSOR_NAME.fullmatch(name):
        raise SafetensorsError("a tensor's name", where=where, expected=TENSOR_NAME.pattern, got=name)
    where = f"{where} {name}"
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise SafetensorsError("a tensor's fields", where=where, expected=sorted(_FIELDS), got=_keys(value))
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise SafetensorsError("an unsupported dtype", where=where, expected=" ".join(_DTYPES), got=dtype)
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS or not _sizes(offsets) or len(offsets) != 2:
        raise SafetensorsError("shape or data_offsets are not sizes", where=where, got=f"{shape} {offsets}")
    start, end = offsets
    itemsize = np.dtype(_DTYPES[dtype]).itemsize
    if not fits_numpy(shape, itemsize):
        raise SafetensorsError("an impossible shape", where=where, expected="less than 2**63 bytes", got=shape)
    expected = math.prod(shape) * itemsize
    if end - start != expected:
        raise SafetensorsError("shape and bytes disagree", where=where, expected=f"{expected} bytes", got=end - start)
    return _Entry(name, dtype, tuple(shape), start, end)


def _sizes(value: Any) -> bool:
    """A list of whole numbers from 0 to 2**63 - 1; `True` is not a number."""
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 1 << 63 for size in value)


def _keys(value: Any) -> Any:
    return sorted(value) if isinstance(value, dict) else type(value).__name__


def _refuse_holes(entries: list[_Entry], data_bytes: int, where: str) -> None:
    position = 0
    for entry in entries:
        if entry.start != position:
            raise SafetensorsError(
                "a hole or an overlap", where=f"{where} {entry.name}", expected=f"start {position}", got=entry.start
            )
        position = entry.end
    if position != data_bytes:
        raise SafetensorsError("the file's length", where=where, expected=f"{position} data bytes", got=data_bytes)


def _tensor(content: bytes, data_start: int, entry: _Entry, where: str) -> Array:
    dtype = np.dtype(_DTYPES[entry.dtype])
    count = math.prod(entry.shape)
    array: Array = (
        np.frombuffer(content, dtype, count=count, offset=data_start + entry.start) if count else np.empty(0, dtype)
    )
    if entry.dtype == "BF16":
        array = (array.astype("<u4") << 16).view("<f4")
    if dtype.kind == "f" or entry.dtype == "BF16":
        if not np.isfinite(array).all():
            raise NonFiniteError("NaN or infinity", where=f"{where} {entry.name}", expected="finite weights")
    elif dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise SafetensorsError("a truth value is neither 0 nor 1", where=f"{where} {entry.name}")
    array = np.require(array.reshape(entry.shape), requirements=["A"])
    array.flags.writeable = False
    return array


def safetensors_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file, byte for byte the same for the same content; `read_safetensors` reads it back.

    Raises:
        SafetensorsError: nothing to write, a name, dtype or metadata that the reader would refuse.
        NonFiniteError: NaN or infinity among the values.
    """
    import safetensors.numpy  # here: reading needs no library

    # The library writes the memory of an array that is not C-contiguous as it lies, which is another array.
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        content = safetensors.numpy.save(contiguous)
    except (KeyError, safetensors.SafetensorError) as error:
        raise SafetensorsError("the tensors cannot be written", where="safetensors", got=error) from None
    content = _with_metadata(content, metadata)
    read_safetensors(FileBytes("safetensors to be written", content))
    return content


def _with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Put metadata in sorted; the library writes it in an order that changes from call to call."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    header |= json.loads(content[8 : 8 + length])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
