"""Sound files of every kind, changed at random: each is read or refused, and nothing else comes out of a reader.

HDF5 is not among them: its reader is a library in C, and runs in a child because such files may end it.
"""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from secure_ai.core.errors import EXIT_BAD_INPUT, SecureAIError
from secure_ai.data.idx import read_idx_images
from secure_ai.data.image_file import decode_image
from secure_ai.files.npy import NpyLimits, read_npz
from secure_ai.files.open import FileBytes
from secure_ai.files.pt2 import read_pt2
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes
from secure_ai.files.sniff import sniff
from secure_ai.files.torch_state import read_torch_state

FIXTURES = Path(__file__).parent.parent / "files" / "fixtures"
WEIGHTS = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.array([True, False]), "c": np.zeros((0, 3))}
CHANGES = 250


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros((2, 4, 4), np.uint8), y=np.zeros(2, np.int64))
    return stream.getvalue()


def torch_file() -> bytes:
    stream = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in WEIGHTS.items()}, stream)
    return stream.getvalue()


def picture(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, form)
    return stream.getvalue()


IDX = struct.pack(">4B3I", 0, 0, 8, 3, 2, 4, 4) + bytes(32)
KINDS: dict[str, tuple[bytes, Callable[[FileBytes], Any]]] = {
    "safetensors": (safetensors_bytes(WEIGHTS, {"arch": "x"}), read_safetensors),
    "torch": (torch_file(), read_torch_state),
    "pt2": ((FIXTURES / "torch_2_13_any.pt2").read_bytes(), read_pt2),
    "npz": (npz(), lambda file: read_npz(file, limits=NpyLimits())),
    "idx": (IDX, read_idx_images),
    "gzip": (gzip.compress(IDX), read_idx_images),
    "png": (picture("PNG"), decode_image),
    "jpeg": (picture("JPEG"), decode_image),
}


def changed(content: bytes, chance: random.Random) -> bytes:
    """A few bytes set, taken away, doubled or made extreme; digits become longer numbers."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(content) + 1)
        length = chance.choice([1, 1, 2, 4, 8, 64])
        new = chance.choice(
            [chance.randbytes(length), b"", content[at : at + length] * 2, b"\xff" * length, bytes(length),
             b"9" * chance.choice([1, 20, 400]), b"-1", b"1e400", b"[" * length]
        )  # fmt: skip
        content = content[:at] + new + content[at + length :]
    return content


def changes(content: bytes, chance: random.Random) -> bytes:
    """Of an archive, one member with the archive sound again, so that the change reaches the reader behind it."""
    if not content.startswith(b"PK") or chance.random() < 0.3:
        return changed(content, chance)
    parts = members(content)
    name = chance.choice([name for name in parts if parts[name]])
    return zipped({**parts, name: changed(parts[name], chance)})


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_or_refused(kind: str) -> None:
    content, reader = KINDS[kind]
    chance = random.Random(kind)
    refusals = 0
    for _ in range(CHANGES):
        file = FileBytes("changed", changes(content, chance))
        sniff(file.content)
        try:
            reader(file)
        except SecureAIError as error:
            refusals += error.exit_code == EXIT_BAD_INPUT
    assert refusals > CHANGES / 10


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_that_are_changed_are_read(kind: str) -> None:
    content, reader = KINDS[kind]
    assert reader(FileBytes("sound", content)) is not None
