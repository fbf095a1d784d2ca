"""State dicts as `torch.save` writes them since 1.6: a ZIP of raw storages, and a pickle of how tensors lie in them.

torch has no part in this: the archive is judged by `archive`, the pickle by `pickles`, the storages against what the
pickle says of them, and every tensor is then a view of a storage's bytes.

TorchScript (`code/`) and exported programs (`.pt2`) are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secure_ai.core.errors import (
    FormatError,
    PickleRefusedError,
    ZipError,
)
from secure_ai.files.archive import ZipLimits, ZipMember, member_bytes, read_directory
from secure_ai.files.boundary import refuses_with
from secure_ai.files.open import MIB, FileBytes
from secure_ai.files.pickle_machine import STORAGES
from secure_ai.files.pickles import StateDictPickle, judge_state_dict_pickle
from secure_ai.files.sniff import sniff
from secure_ai.files.torch_tensors import Array, refuse_growth, storage_values

_LIMITS = ZipLimits(max_members=16_384, max_total_bytes=4096 * MIB)
EXPECTED = "the ZIP format of torch.save"
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


@refuses_with(PickleRefusedError)
def judge_torch_zip(file: FileBytes, weights_key: str = "") -> tuple[StateDictPickle, dict[str, Array]]:
    """The pickle, and the values of every storage that its tensors use, by key. Raises as `read_torch_state` does."""
    if not file.content.startswith(b"PK"):
        raise FormatError("not a torch file", where=file.name, expected=EXPECTED, got=sniff(file.content))
    members = _members_by_part(file, read_directory(file, limits=_LIMITS))
    if "data.pkl" not in members:
        raise PickleRefusedError("no data.pkl in the archive", where=file.name, hint=_HINT)
    for part, allowed in _KNOWN.items():
        if allowed and part in members and (content := member_bytes(file, members[part])) not in allowed:
            expected = " or ".join(repr(value) for value in allowed)
            raise FormatError("an unknown variant", where=f"{file.name}: {part}", expected=expected, got=content[:20])
    judged = judge_state_dict_pickle(
        member_bytes(file, members["data.pkl"]), where=f"{file.name}: data.pkl", weights_key=weights_key
    )
    if judged.protocol != 2:
        expected = "2, torch.save's own"
        raise PickleRefusedError("the pickle protocol", where=file.name, expected=expected, got=judged.protocol)
    refuse_growth(file, judged)
    return judged, _storages(file, judged, members)


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
        if key in names:  # an optimiser's are left where they are
            storages[key] = storage_values(member_bytes(file, members[f"data/{key}"]), storage.kind, where)
    return storages
