"""What kind of file these bytes are. It only chooses the parser; the parser decides whether the bytes are sound."""

from __future__ import annotations

import re
import struct
from enum import StrEnum

_MAX_NAMES = 64
_LEGACY_TAR = slice(257, 262)
_GLOBAL_FIRST = re.compile(rb"[(\]}]{0,4}[ci][A-Za-z_][\w.]{0,100}\n[A-Za-z_][\w.]{0,100}\n")


class Format(StrEnum):
    """Kinds of files. `zip` is an archive of none of the known kinds; `pickle` includes torch's format before 1.6."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "torch_zip"
    PT2 = "pt2"
    KERAS = "keras"
    NPZ = "npz"
    NPY = "npy"
    IDX = "idx"
    GZIP = "gzip"
    PICKLE = "pickle"
    HDF5 = "hdf5"
    PNG = "png"
    ONNX = "onnx"
    TAR = "tar"
    ZIP = "zip"
    UNKNOWN = "unknown"


_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x89HDF\r\n\x1a\n", Format.HDF5),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"\x93NUMPY", Format.NPY),
    (b"\x1f\x8b", Format.GZIP),
)
_IDX_TYPES = b"\x08\x09\x0b\x0c\x0d\x0e"


def sniff(content: bytes) -> Format:
    """The format by content alone; a file's name says nothing. Never raises."""
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _sniff_zip(_zip_names(content))
    for magic, format_ in _MAGIC:
        if content.startswith(magic):
            return format_
    if len(content) >= 9 and content[8:64].lstrip().startswith(b"{") and not content[5:8].strip(b"\0"):
        return Format.SAFETENSORS
    if content[:2] == b"\0\0" and content[2:3] in [_IDX_TYPES[i : i + 1] for i in range(len(_IDX_TYPES))]:
        return Format.IDX
    if content[_LEGACY_TAR] == b"ustar":
        return Format.TAR
    if content[:1] == b"\x80" and content[1:2] in (b"\1", b"\2", b"\3", b"\4", b"\5"):
        return Format.PICKLE
    if _GLOBAL_FIRST.match(content):
        return Format.PICKLE
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x22\x32\x3a\x42]", content):
        return Format.ONNX  # field 1 (ir_version) as a varint, then a field of ModelProto
    return Format.UNKNOWN


def _sniff_zip(names: list[str]) -> Format:
    if any(name in ("config.json", "metadata.json", "model.weights.h5") for name in names):
        return Format.KERAS
    if names and all(name.endswith(".npy") for name in names):
        return Format.NPZ
    if any(re.fullmatch(r"[^/]*/(models/[^/]+\.json|archive_format|data/weights/weight_\d+)", name) for name in names):
        return Format.PT2
    torch_parts = r"(.*/)?(data\.pkl|constants\.pkl|data/\d+|version|byteorder|archive_format)"
    if any(re.fullmatch(torch_parts, name) for name in names):
        return Format.TORCH_ZIP
    return Format.ZIP


def _zip_names(content: bytes) -> list[str]:
    """Names in the directory, read leniently; the first local name where there is no directory."""
    end = content.rfind(b"PK\x05\x06", max(0, len(content) - 66_000))
    position = struct.unpack_from("<L", content, end + 16)[0] if 0 <= end <= len(content) - 22 else len(content)
    names: list[str] = []
    while len(names) < _MAX_NAMES and content[position : position + 4] == b"PK\x01\x02":
        if position + 46 > len(content):
            break
        name, extra, comment = struct.unpack_from("<3H", content, position + 28)
        names.append(content[position + 46 : position + 46 + name].decode("utf-8", "replace"))
        position += 46 + name + extra + comment
    if not names and len(content) >= 30:
        length = struct.unpack_from("<H", content, 26)[0]
        names.append(content[30 : 30 + length].decode("utf-8", "replace"))
    return names
