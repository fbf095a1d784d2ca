"""The format of `torch.save` before torch 1.6: five pickles, then the storages one after the other.

The pickles are a magic number, the format's version, the machine's sizes, the object, and the keys of the storages in
the order in which they follow: each 8 bytes of count, then its elements (`torch.serialization._legacy_save`). Each
pickle is judged like any other; the tar that torch wrote before 0.1.10 is refused.
"""

from __future__ import annotations

import struct

import numpy as np

from secure_ai.core.errors import PickleRefusedError
from secure_ai.files.boundary import refuses_with
from secure_ai.files.open import FileBytes
from secure_ai.files.pickle_machine import STORAGES, DictValue, Storage
from secure_ai.files.pickle_ops import first_pickle
from secure_ai.files.pickles import StateDictPickle, judge_plain_pickle, judge_state_dict_pickle
from secure_ai.files.torch_tensors import Array, refuse_growth, storage_values
from secure_ai.files.violation import ViolatedError

MAGIC_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
_COUNT = struct.Struct("<q")


@refuses_with(PickleRefusedError)
def judge_torch_legacy(file: FileBytes, weights_key: str = "") -> tuple[StateDictPickle, dict[str, Array]]:
    """The pickle of the object, and the values of every storage that its tensors use, by key.

    Raises:
        PickleRefusedError: a pickle is refused, the storages are not those that it speaks of, or do not end with the
            file.
        NonFiniteError, SizeLimitError: as of `read_torch_state`.
    """
    pickles, position = _five(file)
    magic, version, sizes = (judge_plain_pickle(pickles[i], where=f"{file.name}: pickle {i + 1}") for i in range(3))
    little = isinstance(sizes, DictValue) and sizes.entries.get("little_endian") is True
    if (magic, version, little) != (MAGIC, VERSION, True):
        raise PickleRefusedError(
            "not torch's old format", where=file.name, expected=f"version {VERSION}, little-endian", got=version
        )
    judged = judge_state_dict_pickle(pickles[3], where=f"{file.name}: pickle 4", weights_key=weights_key)
    keys = judge_plain_pickle(pickles[4], where=f"{file.name}: pickle 5")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise PickleRefusedError("the fifth pickle is no list of keys", where=file.name)
    if set(keys) != judged.storages.keys():
        odd = sorted(set(keys) ^ judged.storages.keys())[:3]
        raise PickleRefusedError("the file's storages are not those of the pickle", where=file.name, got=odd)
    refuse_growth(file, judged)
    return judged, _storages(file, judged, [judged.storages[key] for key in keys], position)


def _five(file: FileBytes) -> tuple[list[bytes], int]:
    """The five pickles, and where the storages begin."""
    found: list[bytes] = []
    position = 0
    for number in range(1, 6):
        try:
            found.append(first_pickle(file.content, position))
        except ViolatedError as end:
            raise end.violation.error(PickleRefusedError, where=f"{file.name}: pickle {number}") from None
        position += len(found[-1])
    return found, position


def _storages(file: FileBytes, judged: StateDictPickle, order: list[Storage], position: int) -> dict[str, Array]:
    names: dict[str, str] = {}
    for name, view in judged.tensors.items():
        names.setdefault(view.storage.key, name)
    found: dict[str, Array] = {}
    for storage in order:
        where = f"{file.name}: storage {storage.key}"
        size = storage.count * np.dtype(STORAGES[storage.kind]).itemsize
        begin = position + _COUNT.size
        head = file.content[position:begin]
        if len(head) < _COUNT.size or _COUNT.unpack(head)[0] != storage.count or begin + size > len(file.content):
            raise PickleRefusedError("a storage's size", where=where, expected=f"{storage.count} elements")
        if storage.key in names:  # an optimiser's are left where they are
            content = file.content[begin : begin + size]
            found[storage.key] = storage_values(content, storage.kind, f"{where} ({names[storage.key]})")
        position = begin + size
    if position != len(file.content):
        raise PickleRefusedError(
            "bytes behind the last storage", where=file.name, expected=position, got=len(file.content)
        )
    return found
