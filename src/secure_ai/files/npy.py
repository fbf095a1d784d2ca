"""Strict NPY and NPZ: the header is judged, and compared with the bytes there are, before any array exists.

What is read, by `descr` in the header (little-endian, big-endian or one byte); everything else is refused:

    | in the file                                   | what the reader returns                              |
    |-----------------------------------------------|------------------------------------------------------|
    | b1; u1 u2 u4 u8; i1 i2 i4 i8; f4 f8           | the same type, little-endian                         |
    | f2                                            | float32                                              |
    | Fortran order                                 | C order                                              |
    | O, or a record with O in it                   | refused: a pickle (E_NPY_OBJECT)                     |
    | complex, text, bytes, dates, records, f16     | refused                                              |
    | 0 dimensions; no elements                     | refused                                              |

Source: the NPY format, NumPy enhancement proposal 1 and `numpy.lib.format` (versions 1.0, 2.0 and 3.0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from secure_ai.core.errors import DataKeysError, EmptyDataError, NpyError, NpyObjectError, NpyTrailError, SizeLimitError
from secure_ai.files.archive import ZipLimits, read_zip
from secure_ai.files.boundary import refuses_with
from secure_ai.files.open import MIB, FileBytes

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 10_000
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
_TYPES = {"b1": 1, "u1": 1, "u2": 2, "u4": 4, "u8": 8, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "f2": 2, "f4": 4, "f8": 8}
_FIELD = re.compile(r"'(descr|fortran_order|shape)': *('[<>|=]?[A-Za-z]\d{0,4}'|True|False|\([\d, ]*\)),? *")
_TEXT = re.compile(r"U[1-9]\d{0,2}")
_OBJECT = re.compile(r"'[<>|=]?O\d{0,2}'")
_MEMBER = re.compile(r"[A-Za-z0-9_.\-]{1,128}\.npy")

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyLimits:
    """What one array, and a whole NPZ, may cost."""

    max_array_bytes: int = 1024 * MIB
    max_dimensions: int = 8
    max_members: int = 64


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """A checked header; the elements are `content[start:]`."""

    kind: str
    big_endian: bool
    fortran_order: bool
    shape: tuple[int, ...]
    start: int


def read_npy(content: bytes, *, where: str, limits: NpyLimits) -> Array:
    """The array of an NPY file, read-only, C order, little-endian, 1 to `limits.max_dimensions` dimensions.

    Raises:
        NpyError: malformed, or a type outside the table above.
        NpyObjectError: an array of Python objects.
        NpyTrailError: bytes behind the array.
        EmptyDataError: no elements.
        SizeLimitError: larger than the limits.
    """
    header = read_npy_header(content, where=where, limits=limits)
    order = ">" if header.big_endian else "<"
    flat = np.frombuffer(content, dtype=np.dtype(order + header.kind), offset=header.start)
    if header.kind == "b1" and flat.view(np.uint8).max(initial=0) > 1:
        raise NpyError("a truth value is neither 0 nor 1", where=where)
    array: Array = flat.reshape(header.shape, order="F" if header.fortran_order else "C")
    kind = "f4" if header.kind == "f2" else header.kind
    array = np.require(array, dtype=np.dtype("<" + kind), requirements=["C", "A"])
    array.flags.writeable = False
    return array


def read_text(content: bytes, *, where: str, limits: NpyLimits) -> Array:
    """A list of text of an NPY file, one dimension (N,). Raises as `read_npy`, and NpyError for what is no text."""
    header = read_npy_header(content, where=where, limits=limits, text=True)
    if len(header.shape) != 1:
        raise NpyError("not a list of text", where=where, expected="one dimension", got=header.shape)
    width = _width(header.kind)
    try:
        words = [
            content[start : start + width].decode("utf-32-be" if header.big_endian else "utf-32-le").rstrip("\0")
            for start in range(header.start, len(content), width)
        ]
    except UnicodeDecodeError:
        raise NpyError("a character that there is not", where=where, expected="text") from None
    return np.array(words)


def read_npy_header(content: bytes, *, where: str, limits: NpyLimits, text: bool = False) -> NpyHeader:
    """The header, after every check; raises what `read_npy` raises.

    Args:
        text: the array must hold text, instead of numbers.
    """
    if content[:6] != _MAGIC or len(content) < 10:
        raise NpyError("not an NPY file", where=where, expected="\\x93NUMPY at byte 0", got=content[:8].hex(" "))
    width = _LENGTH_BYTES.get((content[6], content[7]))
    if width is None:
        raise NpyError("unknown version", where=where, expected="1.0, 2.0, 3.0", got=f"{content[6]}.{content[7]}")
    start = 8 + width
    length = int.from_bytes(content[8:start], "little")
    if length > _MAX_HEADER_BYTES or start + length > len(content):
        raise NpyError("the header is too long or cut", where=where, expected=f"<= {_MAX_HEADER_BYTES}", got=length)
    fields = _fields(content[start : start + length], where)
    kind, big_endian = _type(fields["descr"].strip("'"), where, text)
    shape = _shape(fields["shape"], where, limits)
    header = NpyHeader(kind, big_endian, fields["fortran_order"] == "True", shape, start + length)
    _compare_with_bytes(header, len(content), where, limits)
    return header


def _fields(raw: bytes, where: str) -> dict[str, str]:
    """The three fields, by a pattern and not by Python's parser: what fits no pattern is never looked at further."""
    text = raw.decode("latin-1").rstrip("\n ")
    fields: dict[str, str] = {}
    position = 1
    while text.startswith("{") and (match := _FIELD.match(text, position)):
        if match[1] in fields:
            raise NpyError("a header field stands twice", where=where, got=match[1])
        fields[match[1]] = match[2]
        position = match.end()
    shapes = {"descr": "'", "fortran_order": "TF", "shape": "("}
    well_typed = all(fields.get(name, "?")[0] in first for name, first in shapes.items())
    if text[position:] != "}" or not well_typed:
        if _OBJECT.search(text):
            raise _object_error(where)
        expected = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"
        raise NpyError("the header is not one of a plain array", where=where, expected=expected, got=text)
    return fields


def _object_error(where: str) -> NpyObjectError:
    return NpyObjectError(
        "the array holds Python objects, that is, a pickle",
        where=where,
        expected="numbers",
        hint="save it again as uint8 or float32",
    )


def _width(kind: str) -> int:
    """Bytes of one value; a character of text has four."""
    return 4 * int(kind[1:]) if kind.startswith("U") else _TYPES[kind]


def _type(descr: str, where: str, text: bool) -> tuple[str, bool]:
    order, kind = (descr[0], descr[1:]) if descr[:1] in tuple("<>|=") else ("=", descr)
    if kind.startswith("O"):
        raise _object_error(where)
    if text:
        if not _TEXT.fullmatch(kind):
            raise NpyError("not text", where=where, expected="np.array([...]) of names", got=descr)
        return kind, order == ">"
    if kind not in _TYPES or (order == "|" and _TYPES[kind] > 1):
        raise NpyError("an unsupported element type", where=where, expected=" ".join(_TYPES), got=descr)
    return kind, order == ">"


def _shape(text: str, where: str, limits: NpyLimits) -> tuple[int, ...]:
    parts = text[1:-1].replace(" ", "").split(",")
    if parts[-1] == "":
        parts.pop()
    if not 1 <= len(parts) <= limits.max_dimensions or any(not 1 <= len(part) <= 18 for part in parts):
        expected = f"1 to {limits.max_dimensions} whole numbers"
        raise NpyError("an unsupported shape", where=where, expected=expected, got=text)
    return tuple(int(part) for part in parts)


def _compare_with_bytes(header: NpyHeader, content_bytes: int, where: str, limits: NpyLimits) -> None:
    expected = math.prod(header.shape) * _width(header.kind)
    if expected == 0:
        raise EmptyDataError("the array has no elements", where=where, got=f"shape {header.shape}")
    if expected > limits.max_array_bytes:
        limit = f"<= {limits.max_array_bytes} bytes"
        raise SizeLimitError("the array is too large", where=where, expected=limit, got=expected)
    got = content_bytes - header.start
    if got > expected:
        raise NpyTrailError("bytes behind the array", where=where, expected=f"{expected} bytes", got=got)
    if got < expected:
        raise NpyError("the array is cut", where=where, expected=f"{expected} bytes", got=got)


@refuses_with(NpyError)
def read_npz(
    file: FileBytes, *, limits: NpyLimits, names: Collection[str] | None = None, text: Collection[str] = ()
) -> dict[str, Array]:
    """The arrays of an NPZ archive by name (without `.npy`).

    Args:
        names: where given, exactly these must be there.
        text: arrays that must be lists of text, see `read_text`.

    Raises:
        ZipError: the archive is malformed, ambiguous or a bomb.
        DataKeysError: a member is no NPY file, or other arrays than `names`.
        And what `read_npy` raises.
    """
    zip_limits = ZipLimits(max_members=limits.max_members, max_total_bytes=limits.max_array_bytes)
    members = read_zip(file, limits=zip_limits)
    if foreign := [name for name in members if not _MEMBER.fullmatch(name)]:
        raise DataKeysError("a member is not an array", where=file.name, expected="NAME.npy", got=foreign[0])
    found = {name.removesuffix(".npy") for name in members}
    if names is not None and found != set(names):
        raise DataKeysError("other arrays than expected", where=file.name, expected=sorted(names), got=sorted(found))
    arrays: dict[str, Array] = {}
    for member, content in members.items():
        name = member.removesuffix(".npy")
        reader = read_text if name in text else read_npy
        arrays[name] = reader(content, where=f"{file.name}: {member}", limits=limits)
    return arrays
