"""State dicts as `torch.save` writes them: a ZIP of raw storages and one pickle that says how tensors lie in them.

torch has no part in this: the archive is judged by `archive`, the pickle by `pickles`, the storages against what the
pickle says of them, and every tensor is then a view of a storage's bytes.

TorchScript (`code/`), exported programs (`.pt2`) and the formats before torch 1.6 are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from secure_ai.core.errors import (
    FormatError,
    NonFiniteError,
    PickleRefusedError,
    SizeLimitError,
    ZipError,
)
from secure_ai.files.archive import ZipLimits, ZipMember, member_bytes, read_directory
from secure_ai.files.boundary import most_tensor_bytes, refuses_with
from secure_ai.files.open import MIB, FileBytes
from secure_ai.files.pickle_machine import STORAGES, TensorView
from secure_ai.files.pickles import StateDictPickle, judge_state_dict_pickle
from secure_ai.files.sniff import Format, sniff

_LIMITS = ZipLimits(max_members=16_384, max_total_bytes=4096 * MIB)
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


@refuses_with(PickleRefusedError)
def read_torch_state(file: FileBytes) -> dict[str, Array]:
    """The tensors of a state dict by name, read-only, C order; bfloat16 becomes float32.

    A checkpoint dict whose tensors stand under `state_dict` or `model` gives those and nothing else. Tensors that are
    the same view of the same storage share one array.

    Raises:
        FormatError: another format, TorchScript or an exported program.
        ZipError: the archive is malformed or ambiguous.
        PickleRefusedError: the pickle asks for more than named tensors, or its storages are not as it says.
        NonFiniteError: NaN or infinity among the weights.
        SizeLimitError: the tensors are far larger than the file.
    """
    judged, storages = _judged(file)
    views: dict[TensorView, Array] = {}
    for view in judged.tensors.values():
        if view not in views:
            views[view] = _tensor(view, storages[view.storage.key])
    return {name: views[view] for name, view in judged.tensors.items()}


def _tensor(view: TensorView, values: Array) -> Array:
    if 0 in view.shape:
        return np.zeros(view.shape, values.dtype)
    strides = [step * values.itemsize for step in view.stride]
    strided = np.lib.stride_tricks.as_strided(values[view.offset :], view.shape, strides, writeable=False)
    array: Array = np.require(strided, requirements=["C"])
    array.flags.writeable = False
    return array


@refuses_with(PickleRefusedError)
def judge_torch_zip(file: FileBytes) -> StateDictPickle:
    """Every check of `read_torch_state`; raises the same."""
    return _judged(file)[0]


def _judged(file: FileBytes) -> tuple[StateDictPickle, dict[str, Array]]:
    """The pickle, and the values of every storage by key."""
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
    _refuse_growth(file, judged)
    return judged, _storages(file, judged, members)


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


def _storages(file: FileBytes, judged: StateDictPickle, members: Mapping[str, ZipMember]) -> dict[str, Array]:
    present = {part.removeprefix("data/") for part in members if part.startswith("data/")}
    if present != judged.storages.keys():
        odd = sorted(present ^ judged.storages.keys())[:3]
        raise PickleRefusedError("the archive's storages are not those of the pickle", where=file.name, got=odd)
    names: dict[str, list[str]] = {}
    for name, view in judged.tensors.items():
        names.setdefault(view.storage.key, []).append(name)
    storages: dict[str, Array] = {}
    for key, storage in judged.storages.items():
        where = f"{file.name}: data/{key}" + (f" ({', '.join(names[key][:3])})" if key in names else "")
        dtype = np.dtype(STORAGES[storage.kind])
        if members[f"data/{key}"].bytes != storage.count * dtype.itemsize:
            expected = f"{storage.count} elements of {dtype.itemsize} bytes"
            got = f"{members[f'data/{key}'].bytes} bytes"
            raise PickleRefusedError("a storage's size", where=where, expected=expected, got=got)
        storages[key] = _values(member_bytes(file, members[f"data/{key}"]), storage.kind, where)
    return storages


def _values(content: bytes, kind: str, where: str) -> Array:
    values: Array = np.frombuffer(content, np.dtype(STORAGES[kind]))
    if kind == "torch.BFloat16Storage":
        finite = bool(((values & 0x7F80) != 0x7F80).all())  # an exponent of ones is infinity or NaN
    elif values.dtype.kind == "f":
        finite = bool(np.isfinite(values).all())
    else:
        finite = values.dtype.kind != "b" or not content.strip(b"\0\1")
    if not finite:
        raise NonFiniteError("NaN, infinity, or a truth value that is neither", where=where, expected="finite weights")
    return (values.astype("<u4") << 16).view("<f4") if kind == "torch.BFloat16Storage" else values


def _refuse_growth(file: FileBytes, judged: StateDictPickle) -> None:
    """A stride of 0, windows that overlap and many names for one storage make much out of little."""
    total = 0
    for name, view in judged.tensors.items():
        if math.prod(view.shape) > view.storage.count:
            expected = f"at most the {view.storage.count} elements of its storage"
            where = f"{file.name} {name}"
            raise SizeLimitError("a tensor repeats elements", where=where, expected=expected, got=view.shape)
        total += math.prod(view.shape) * np.dtype(STORAGES[view.storage.kind]).itemsize
    most = most_tensor_bytes(len(file.content))
    if total > most:
        raise SizeLimitError(
            "the tensors are far larger than the file", where=file.name, expected=f"<= {most}", got=total
        )
