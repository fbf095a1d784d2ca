"""Exported programs (`.pt2`, torch.export.save) without torch's loader: raw weights and a graph in JSON.

`torch.export.load` is not safe on a foreign file: the sample inputs are unpickled (with full pickle where the strict
one fails), so is every weight, constant and custom object that the file marks as pickled; symbolic expressions go
through `sympify`, which evaluates Python; operators and metadata are looked up by attribute below `torch`. So the
archive is read here: the strict ZIP reader, weights from their raw bytes, the graph against a closed list of
operations (`pt2_graph`). The pickled sample inputs are never opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secure_ai.core.errors import FormatError, NonFiniteError, SizeLimitError
from secure_ai.files.archive import ZipLimits, ZipMember, member_bytes, read_directory
from secure_ai.files.boundary import fits_numpy, most_tensor_bytes, refuses_with
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, FileBytes
from secure_ai.files.pt2_arguments import EXPORT_HINT, SCALAR_TYPES
from secure_ai.files.pt2_graph import Graph, parse_graph

_LIMITS = ZipLimits(max_members=16_384, max_total_bytes=4096 * MIB)
_MAX_JSON_BYTES = 8 * MIB  # of one text; a node needs 1 to 4 kB
_PARTS = re.compile(
    r"data/(weights/weight_\d+|weights/model_weights_config\.json|constants/tensor_\d+"
    r"|constants/model_constants_config\.json|sample_inputs/model\.pt)"
    r"|models/model\.json|archive_format|archive_version|byteorder|version"
    r"|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
)
_VALUES = re.compile(r"(weight|tensor)_\d+")
_SMALL_BYTES = 64 * 1024  # a tensor this small may repeat its values: expanded constants
_SAYS = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class ExportedProgram:
    """What a file holds: the graph, its tensors by name, and which of them are parameters."""

    graph: Graph
    arrays: Mapping[str, Array]
    parameters: frozenset[str]


@refuses_with(FormatError)
def read_pt2(file: FileBytes) -> ExportedProgram:
    """The program of a `.pt2` file.

    Raises:
        FormatError: another variant, several models, compiled code, pickled tensors, or a graph that `parse_graph`
            refuses.
        ZipError, JsonError: the archive or a JSON text in it is malformed.
        NonFiniteError: NaN or infinity among the weights.
        SizeLimitError: the tensors are far larger than the file.
    """
    members = _members(file)
    graph = parse_graph(_json(file, members, "models/model.json"), where=f"{file.name}: models/model.json")
    used = set(graph.states.values())
    weights = _Weights(file, members)
    arrays: dict[str, Array] = {}
    parameters: set[str] = set()
    for folder, config in (("weights", "model_weights_config.json"), ("constants", "model_constants_config.json")):
        entries = _json(file, members, f"data/{folder}/{config}")
        table = entries.get("config") if isinstance(entries, dict) else None
        if not isinstance(table, dict):
            raise _refusal(f"{config} has no table", file.name)
        for name in (name for name in table if name in used):
            arrays[name] = weights.read(folder, name, table[name])
            if table[name].get("is_param") is True:
                parameters.add(name)
    missing = sorted(used - arrays.keys())
    if missing:
        raise _refusal("weights are missing", file.name, got=", ".join(missing[:4]))
    return ExportedProgram(graph, arrays, frozenset(parameters))


def _refusal(message: str, where: str, *, expected: object = "", got: object = "") -> FormatError:
    return FormatError(message, where=where, expected=expected, got=got, hint=EXPORT_HINT)


def _members(file: FileBytes) -> dict[str, ZipMember]:
    directory = read_directory(file, limits=_LIMITS)
    tops = {member.name.partition("/")[0] for member in directory}
    if len(tops) != 1:
        raise _refusal("not an exported program", file.name, expected="one top folder", got=len(tops))
    members = {member.name.partition("/")[2]: member for member in directory}
    for part in members:
        if not _PARTS.fullmatch(part):
            raise _refusal("a member that is not read", file.name, expected="one plain exported model", got=part)
    for part, content in _SAYS.items():
        got = member_bytes(file, members[part]) if part in members and members[part].bytes < 64 else b""
        if got != content:
            raise _refusal("an unknown variant", f"{file.name}: {part}", expected=content.decode(), got=got[:20])
    return members


def _json(file: FileBytes, members: Mapping[str, ZipMember], part: str) -> Any:
    if part not in members:
        raise _refusal("a part is missing", file.name, expected=part)
    where = f"{file.name}: {part}"
    if members[part].bytes > _MAX_JSON_BYTES:  # before it is inflated
        raise _refusal("the JSON text is too large", where, expected=f"<= {_MAX_JSON_BYTES}", got=members[part].bytes)
    return parse_json(member_bytes(file, members[part]), where=where, max_bytes=_MAX_JSON_BYTES)


class _Weights:
    """The tensors of a file: each member is read once, and all of them share one budget of bytes."""

    def __init__(self, file: FileBytes, members: Mapping[str, ZipMember]) -> None:
        self._file = file
        self._members = members
        self._left = most_tensor_bytes(len(file.content))
        self._contents: dict[str, bytes] = {}

    def read(self, folder: str, name: str, payload: Any) -> Array:
        """The tensor that an entry of the table describes."""
        where = f"{self._file.name}: {name}"
        if not isinstance(payload, dict) or payload.get("use_pickle") is not False:
            raise _refusal("a weight or constant that is pickled", where, expected="raw values")
        meta, path = payload.get("tensor_meta"), payload.get("path_name")
        part = f"data/{folder}/{path}"
        if not isinstance(meta, dict) or part not in self._members or not _VALUES.fullmatch(str(path)):
            raise _refusal("a weight without its values", where, got=path)
        if type(meta.get("dtype")) is not int or meta["dtype"] not in SCALAR_TYPES:
            expected = ", ".join(SCALAR_TYPES.values())
            raise _refusal("an unsupported type", where, expected=expected, got=meta.get("dtype"))
        sizes, strides = (_numbers(meta.get(key), where) for key in ("sizes", "strides"))
        (offset,) = _numbers([meta.get("storage_offset")], where)
        dtype = np.dtype(SCALAR_TYPES[meta["dtype"]])
        self._pay(sizes, strides, dtype.itemsize, self._members[part].bytes, where)
        if part not in self._contents:
            self._contents[part] = member_bytes(self._file, self._members[part])
        return _viewed(self._contents[part], dtype, sizes, strides, offset, where)

    def _pay(self, sizes: list[int], strides: list[int], itemsize: int, stored: int, where: str) -> None:
        """Refuse a tensor before its values are read."""
        got = f"{sizes} in {stored} bytes"
        if len(sizes) != len(strides) or stored % itemsize or not fits_numpy(sizes, itemsize):
            raise _refusal("a weight whose sizes and values do not agree", where, got=got)
        self._left -= math.prod(sizes) * itemsize
        if self._left < 0 or math.prod(sizes) * itemsize > max(stored, _SMALL_BYTES):
            raise SizeLimitError("the tensors are far larger than the file", where=where, got=got)


def _viewed(
    content: bytes, dtype: np.dtype[Any], sizes: list[int], strides: list[int], offset: int, where: str
) -> Array:
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if last >= len(content) // dtype.itemsize > 0:
        raise _refusal("a weight reaches beyond its values", where, got=f"{sizes} in {len(content)} bytes")
    if math.prod(sizes) == 0 or not content:
        if math.prod(sizes):
            raise _refusal("a weight without its values", where, got="0 bytes")
        return np.zeros(sizes, dtype)
    if dtype == np.bool_ and content.strip(b"\0\1"):
        raise NonFiniteError("a truth value that is neither", where=where, expected="0 or 1")
    values = np.frombuffer(content, dtype)[offset:]
    steps = [stride * dtype.itemsize for stride in strides]
    array: Array = np.lib.stride_tricks.as_strided(values, sizes, steps, writeable=False).copy()
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise NonFiniteError("NaN or infinity among the weights", where=where, expected="finite weights")
    return array


def _numbers(values: Any, where: str) -> list[int]:
    """Whole numbers from 0 to 2**40, each written as `{"as_int": n}`."""
    numbers = [value.get("as_int") if isinstance(value, dict) else None for value in values or []]
    if not all(type(number) is int and 0 <= number < 1 << 40 for number in numbers) or len(numbers) > 8:
        raise _refusal("a size or stride that is no number", where, got=numbers)
    return [int(number) for number in numbers if number is not None]
