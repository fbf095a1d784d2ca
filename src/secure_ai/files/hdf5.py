"""Chosen float32 arrays out of an HDF5 file, after a look at every link and every dataset in it.

HDF5 can point at other files (external links, external storage, virtual datasets), load filter plugins and declare
terabytes in a few bytes; all of it is refused before anything is read. The library itself is 200,000 lines of C with a
history of memory errors, so `read_hdf5` runs it in a child process. Sources: CVE-2026-1669, CVE-2026-0897 and the HDF5
file format specification 3.0.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from secure_ai.core.errors import ChildFailedError, KerasFormatError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, FileBytes
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes
from secure_ai.files.sandbox import answer_request, run_child

MAX_OBJECTS = 4096
MAX_DEPTH = 8
MAX_RATIO = 16  # of what deflate makes out of sparse weights
SMALL_BYTES = 64 * 1024  # a compressed dataset this small may shrink by any ratio
_MAGIC = b"\x89HDF\r\n\x1a\n"
_LINK_NAME = re.compile(r"[A-Za-z0-9_]{1,128}")
_DEFLATE, _SHUFFLE = 1, 2
_TIMEOUT_S = 60.0
_CHILD_BASE_BYTES = 2048 * MIB

Array = np.ndarray[Any, np.dtype[Any]]


def read_hdf5(
    content: bytes, expected: Mapping[str, tuple[int, ...]], *, where: str, events: EventSink = ignore_event
) -> dict[str, Array]:
    """The datasets named in `expected`, by path, read in a child process.

    Args:
        expected: path to shape. Below `layers/` there must be no dataset besides these.
        events: told `child_confined`.

    Raises:
        KerasFormatError: the file is malformed, holds what is refused, or lacks a dataset of this shape.
        NonFiniteError: NaN or infinity.
    """
    if not content.startswith(_MAGIC):
        raise KerasFormatError("not an HDF5 file", where=where, expected="HDF5 magic at byte 0", got=content[:8])
    question = json.dumps(
        {"where": where, "expected": {path: list(shape) for path, shape in expected.items()}}
    ).encode()
    answer_bytes = 2 * MIB + 4 * sum(math.prod(shape) for shape in expected.values())
    try:
        answer = run_child(
            "secure_ai.files.hdf5",
            len(question).to_bytes(8, "little") + question + content,
            timeout_s=_TIMEOUT_S,
            max_answer_bytes=answer_bytes,
            max_memory_bytes=_CHILD_BASE_BYTES + 4 * len(content) + 4 * answer_bytes,
            events=events,
        )
    except ChildFailedError as error:
        raise KerasFormatError("the HDF5 library fails on this file", where=where, got=error.got) from None
    if not expected:
        return {}
    arrays = read_safetensors(FileBytes(where, answer.content)).tensors
    return {path: arrays[f"w{index}"] for index, path in enumerate(expected)}


def _answer(request: bytes) -> bytes:
    """In the child: the arrays as safetensors, named w0, w1, ... in the order asked."""
    start = 8 + int.from_bytes(request[:8], "little")
    question = parse_json(request[8:start], where="request")
    expected = {path: tuple(shape) for path, shape in question["expected"].items()}
    arrays = read_arrays(request[start:], expected, where=question["where"])
    return (
        safetensors_bytes({f"w{index}": arrays[path] for index, path in enumerate(expected)}, {}) if expected else b""
    )


def read_arrays(content: bytes, expected: Mapping[str, tuple[int, ...]], *, where: str) -> dict[str, Array]:
    """What `read_hdf5` answers, in this process; raises the same."""
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            found = {path: shape for path, shape in _walk(file, len(content), where) if path.startswith("layers/")}
            _compare(found, expected, where)
            return {path: np.asarray(file[path][()]) for path in expected}
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        RecursionError,
        OverflowError,
        MemoryError,
    ) as error:
        raise KerasFormatError("the HDF5 library fails on this file", where=where, got=error) from None


def _compare(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    for path, shape in expected.items():
        if found.get(path) != shape:
            raise KerasFormatError(
                "weights do not fit the layer", where=f"{where} {path}", expected=shape, got=found.get(path, "missing")
            )
    if extra := sorted(found.keys() - expected.keys()):
        raise KerasFormatError(
            "weights that no layer has", where=where, expected=f"{len(expected)} arrays", got=extra[0]
        )


def _walk(file: Any, file_bytes: int, where: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Path and shape of every dataset, each link and object checked before it is opened or used."""
    import h5py

    todo: list[tuple[str, Any]] = [("", file)]
    addresses: set[int] = set()
    objects = 0
    while todo:
        prefix, group = todo.pop()
        for name in group:
            objects += 1
            path = f"{prefix}{name}"
            _check_link(group, name, f"{where} {path}")
            if objects > MAX_OBJECTS or path.count("/") >= MAX_DEPTH:
                raise KerasFormatError("too many objects, or too deep", where=where, expected=f"<= {MAX_OBJECTS}")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in addresses:
                raise KerasFormatError("two names for one object", where=f"{where} {path}")
            addresses.add(address)
            if isinstance(item, h5py.Group):
                todo.append((f"{path}/", item))
            elif isinstance(item, h5py.Dataset):
                yield path, _checked_shape(item, file_bytes, path, where)
            else:
                raise KerasFormatError("neither a group nor a dataset", where=f"{where} {path}")


def _check_link(group: Any, name: str, where: str) -> None:
    import h5py

    if not _LINK_NAME.fullmatch(name):
        raise KerasFormatError("a name in the weights file", where=where, expected=_LINK_NAME.pattern)
    link = group.get(name, getlink=True)
    if type(link) is not h5py.HardLink:
        raise KerasFormatError("a link out of the file or to a path", where=where, got=type(link).__name__)


def _checked_shape(dataset: Any, file_bytes: int, path: str, where: str) -> tuple[int, ...]:
    import h5py

    where = f"{where} {path}"
    plan = dataset.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
        raise KerasFormatError("data outside this file", where=where, expected="data in this file")
    filters = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())}
    if filters - {_DEFLATE, _SHUFFLE}:
        raise KerasFormatError("an unsupported filter", where=where, expected="gzip or shuffle", got=sorted(filters))
    is_weight = path.startswith("layers/")
    is_count = dataset.shape == () and dataset.dtype.kind in "iu"  # what Normalization keeps beside its mean
    if dataset.dtype.kind not in "fiu" or (is_weight and not is_count and dataset.dtype != np.dtype("<f4")):
        raise KerasFormatError("an unsupported type", where=where, expected="float32 weights", got=dataset.dtype)
    shape = dataset.shape
    if shape is None:
        raise KerasFormatError("a dataset without a shape", where=where)
    # What was never written is read as the fill value, which costs the file nothing.
    stored = min(dataset.id.get_storage_size(), file_bytes)
    most = max(MAX_RATIO * stored, SMALL_BYTES) if filters else stored
    if math.prod(shape) * dataset.dtype.itemsize > most:
        expected = f"<= {most} bytes from {stored} stored"
        raise KerasFormatError("a dataset declares more than it stores", where=where, expected=expected, got=shape)
    return tuple(int(size) for size in shape)


if __name__ == "__main__":
    answer_request(_answer, imports=("h5py", "safetensors"))
