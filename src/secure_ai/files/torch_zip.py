"""State dicts as `torch.save` writes them: a ZIP of raw storages and one pickle that says how tensors lie in them.

Everything is decided before torch sees a byte: the archive by `archive`, the pickle by `pickles`, the storages against
what the pickle says of them. Then torch reads the file in the loader child, and its answer must be what was judged.

TorchScript (`code/`), exported programs (`.pt2`) and the formats before torch 1.6 are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from secure_ai.core.errors import (
    ChildFailedError,
    FormatError,
    NonFiniteError,
    PickleRefusedError,
    SizeLimitError,
    ZipError,
)
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.files.archive import ZipLimits, ZipMember, member_bytes, read_directory
from secure_ai.files.open import MIB, FileBytes
from secure_ai.files.pickle_machine import STORAGES
from secure_ai.files.pickles import StateDictPickle, judge_state_dict_pickle
from secure_ai.files.safetensors import read_safetensors
from secure_ai.files.sandbox import run_child
from secure_ai.files.sniff import Format, sniff

_LIMITS = ZipLimits(max_members=16_384, max_total_bytes=4096 * MIB)
_CHILD = "secure_ai.models.load.loader_child"
_TIMEOUT_S = 120.0
# Address space, not memory: a CUDA build of torch maps several GiB of libraries before it reads anything.
_CHILD_BASE_BYTES = 16 * 1024 * MIB
_MAX_GROWTH = 100
_FLOOR_BYTES = 1 * MIB
_HINT = "save model.state_dict() with torch.save, or better as safetensors"
# Small members besides the pickle and the storages, with what they may hold.
_KNOWN = {
    "version": (b"3\n", b"3"),
    "byteorder": (b"little",),
    ".format_version": (b"1",),
    ".storage_alignment": None,
    ".data/serialization_id": None,
}
_FOREIGN = (
    ("code/", "TorchScript: it holds a program"),
    ("constants.pkl", "TorchScript: it holds a program"),
    ("archive_format", "an exported program (.pt2)"),
)

Array = np.ndarray[Any, np.dtype[Any]]


def read_torch_state(file: FileBytes, *, events: EventSink = ignore_event) -> dict[str, Array]:
    """The tensors of a state dict by name; bfloat16 becomes float32.

    A checkpoint dict whose tensors stand under `state_dict` or `model` gives those and nothing else.

    Raises:
        FormatError: another format, TorchScript or an exported program.
        ZipError: the archive is malformed or ambiguous.
        PickleRefusedError: the pickle asks for more than named tensors, or its storages are not as it says.
        NonFiniteError: NaN or infinity among the weights.
        SizeLimitError: the tensors are far larger than the file.
        ChildFailedError: torch's reader died, or read something else than was judged.
    """
    judged = judge_torch_zip(file)
    size = len(file.content)
    expected = {name: _dtype_and_shape(view.storage.kind, view.shape) for name, view in judged.tensors.items()}
    answer_bytes = 2 * MIB + sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in expected.values())
    answer = run_child(
        _CHILD,
        file.content,
        timeout_s=_TIMEOUT_S,
        max_answer_bytes=answer_bytes,
        max_memory_bytes=_CHILD_BASE_BYTES + 4 * size + 4 * answer_bytes,
        events=events,
    )
    tensors = read_safetensors(FileBytes(file.name, answer.content)).tensors
    got = {name: (array.dtype.str, array.shape) for name, array in tensors.items()}
    if got != expected:
        raise ChildFailedError("torch read something else than was judged", where=file.name)
    return {name: tensors[name] for name in expected}


def _dtype_and_shape(kind: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    return ("<f4" if kind == "torch.BFloat16Storage" else STORAGES[kind]), shape


def judge_torch_zip(file: FileBytes) -> StateDictPickle:
    """Every check that needs no torch; raises what `read_torch_state` raises, but ChildFailedError."""
    _refuse_other_formats(file)
    members = _members_by_part(file, read_directory(file, limits=_LIMITS))
    if "data.pkl" not in members:
        raise PickleRefusedError("no data.pkl in the archive", where=file.name, hint=_HINT)
    for part, allowed in _KNOWN.items():
        if allowed and part in members and (content := member_bytes(file, members[part])) not in allowed:
            expected = " or ".join(repr(value) for value in allowed)
            raise FormatError("an unknown variant", where=f"{file.name}: {part}", expected=expected, got=content[:20])
    judged = judge_state_dict_pickle(member_bytes(file, members["data.pkl"]), where=f"{file.name}: data.pkl")
    if judged.protocol != 2:
        expected = "2, torch.save's own"
        raise PickleRefusedError("the pickle protocol", where=file.name, expected=expected, got=judged.protocol)
    _check_storages(file, judged, members)
    _refuse_growth(file, judged)
    return judged


def _refuse_other_formats(file: FileBytes) -> None:
    found = sniff(file.content)
    if found is Format.PICKLE:
        raise PickleRefusedError(
            "a bare pickle or torch's format before 1.6",
            where=file.name,
            expected="the ZIP format of torch.save",
            hint=_HINT,
        )
    if not file.content.startswith(b"PK"):
        raise FormatError("not a torch file", where=file.name, expected="the ZIP format of torch.save", got=found)


def _members_by_part(file: FileBytes, members: tuple[ZipMember, ...]) -> dict[str, ZipMember]:
    """Members by their name below the one top folder. Only known parts may be there."""
    tops = {member.name.partition("/")[0] for member in members}
    parts = {member.name.partition("/")[2]: member for member in members}
    for prefix, meaning in _FOREIGN:
        if any(part.startswith(prefix) for part in parts):
            raise FormatError(meaning, where=file.name, expected="a state dict", hint=_HINT)
    if len(tops) != 1:
        raise FormatError("not a torch file", where=file.name, expected="one top folder", got=f"{len(tops)}")
    for part in parts:
        is_storage = part.startswith("data/") and part[5:].isascii() and part[5:].isdigit()
        if part != "data.pkl" and part not in _KNOWN and not is_storage:
            raise FormatError("an unknown member", where=file.name, expected="a state dict", got=part, hint=_HINT)
        if not parts[part].stored:
            raise ZipError("a compressed member", where=f"{file.name}: {part}", expected="stored, as torch writes it")
    return parts


def _check_storages(file: FileBytes, judged: StateDictPickle, members: Mapping[str, ZipMember]) -> None:
    present = {part.removeprefix("data/") for part in members if part.startswith("data/")}
    if present != judged.storages.keys():
        odd = sorted(present ^ judged.storages.keys())[:3]
        raise PickleRefusedError("the archive's storages are not those of the pickle", where=file.name, got=odd)
    for key, storage in judged.storages.items():
        tensors = [name for name, view in judged.tensors.items() if view.storage is storage]
        where = f"{file.name}: data/{key}" + (f" ({', '.join(tensors[:3])})" if tensors else "")
        dtype = np.dtype(STORAGES[storage.kind])
        if members[f"data/{key}"].bytes != storage.count * dtype.itemsize:
            expected = f"{storage.count} elements of {dtype.itemsize} bytes"
            got = f"{members[f'data/{key}'].bytes} bytes"
            raise PickleRefusedError("a storage's size", where=where, expected=expected, got=got)
        _refuse_bad_values(member_bytes(file, members[f"data/{key}"]), storage.kind, where)


def _refuse_bad_values(content: bytes, kind: str, where: str) -> None:
    values = np.frombuffer(content, np.dtype(STORAGES[kind]))
    if kind == "torch.BFloat16Storage":
        finite = bool(((values & 0x7F80) != 0x7F80).all())  # an exponent of ones is infinity or NaN
    elif values.dtype.kind == "f":
        finite = bool(np.isfinite(values).all())
    else:
        finite = values.dtype.kind != "b" or not content.strip(b"\0\1")
    if not finite:
        raise NonFiniteError("NaN, infinity, or a truth value that is neither", where=where, expected="finite weights")


def _refuse_growth(file: FileBytes, judged: StateDictPickle) -> None:
    """A stride of 0 makes a tensor of any size out of one element."""
    total = sum(
        math.prod(view.shape) * np.dtype(STORAGES[view.storage.kind]).itemsize for view in judged.tensors.values()
    )
    most = max(_FLOOR_BYTES, _MAX_GROWTH * len(file.content))
    if total > most:
        raise SizeLimitError(
            "the tensors are far larger than the file", where=file.name, expected=f"<= {most}", got=total
        )
