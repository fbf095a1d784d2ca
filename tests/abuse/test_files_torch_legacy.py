"""Torch's format before 1.6: each of its five pickles is judged, and the storages end with the file."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any

import pytest
import torch

from secure_ai.core.errors import PickleRefusedError
from secure_ai.files.open import FileBytes
from secure_ai.files.torch_legacy import MAGIC, MAGIC_PICKLE, VERSION
from secure_ai.files.torch_state import read_torch_state

SIZES = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
CANARY = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


CLEAN = saved({"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)})


def parts() -> list[bytes]:
    """The five pickles of the clean file, and its storages."""
    stream, found, begin = io.BytesIO(CLEAN), [], 0
    for number in range(5):
        unpickler = pickle.Unpickler(stream)
        unpickler.persistent_load = lambda saved_id: None  # type: ignore[method-assign]
        unpickler.load() if number != 3 else stream.seek(begin + _length_of_fourth(begin))
        found.append(CLEAN[begin : stream.tell()])
        begin = stream.tell()
    return [*found, CLEAN[begin:]]


def _length_of_fourth(begin: int) -> int:
    return CLEAN.index(b".\x80\x02]", begin) + 1 - begin


PARTS = parts()


def with_part(number: int, content: bytes) -> bytes:
    return b"".join([*PARTS[:number], content, *PARTS[number + 1 :]])


def plain(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)


KEYS = pickle.loads(PARTS[4])
BAD = {
    **{f"code-in-pickle-{number + 1}": with_part(number, CANARY) for number in range(1, 5)},
    "another-version": with_part(1, plain(1002)),
    "big-endian": with_part(2, plain({**SIZES, "little_endian": False})),
    "endianness-unsaid": with_part(2, plain([])),
    "no-list-of-keys": with_part(4, plain("0")),
    "a-key-twice": with_part(4, plain([*KEYS, KEYS[0]])),
    "a-key-missing": with_part(4, plain(KEYS[:1])),
    "a-foreign-key": with_part(4, plain([*KEYS, "7"])),
    "a-byte-behind": CLEAN + b"\0",
    "cut-in-a-storage": CLEAN[:-1],
    "cut-before-the-storages": b"".join(PARTS[:5]),
    "cut-in-a-pickle": b"".join(PARTS[:3]) + PARTS[3][:40],
    "another-count": with_part(5, struct.pack("<q", 7) + PARTS[5][8:]),
    "a-negative-count": with_part(5, struct.pack("<q", -1) + PARTS[5][8:]),
    "a-view-of-a-storage": with_part(3, PARTS[3].replace(b"NtQ", b"K\0tQ").replace(b"Ntq", b"K\0tq")),
    "only-the-magic": MAGIC_PICKLE,
}


def test_the_parts_are_those_of_the_file() -> None:
    assert b"".join(PARTS) == CLEAN
    assert (PARTS[0], pickle.loads(PARTS[0])) == (MAGIC_PICKLE, MAGIC)
    assert read_torch_state(FileBytes("m.pt", CLEAN))["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_every_other_is_refused(refused: Callable[..., Any], content: bytes) -> None:
    assert content != CLEAN
    refused("E_PICKLE", lambda: read_torch_state(FileBytes("m.pt", content)))


def test_a_nan_in_a_weight_is_refused_and_one_of_an_optimiser_is_not_read(refused: Callable[..., Any]) -> None:
    nan = torch.tensor([float("nan")])
    refused("E_NONFINITE", lambda: read_torch_state(FileBytes("m.pt", saved({"w": nan}))))
    whole = saved({"net": {"w": torch.ones(1)}, "optimizer": {"state": {0: {"exp_avg": nan}}}})
    assert read_torch_state(FileBytes("m.pt", whole))["w"].tolist() == [1]


def test_one_large_dict_named_many_times_costs_little() -> None:
    large = {f"w{number}": torch.zeros(1) for number in range(1000)}
    content = saved({**{f"k{number}": large for number in range(2000)}})
    with pytest.raises(PickleRefusedError) as refused:
        read_torch_state(FileBytes("m.pt", content))
    assert refused.value.hint == "--weights-key k0"
