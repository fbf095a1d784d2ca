"""Strict ZIP: archives of every writer we meet are read as Python's own reader reads them, and limits are exact."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import SecureAIError, ZipError
from secure_ai.files.archive import ZipLimits, read_directory, read_zip
from secure_ai.files.open import FileBytes

LIMITS = ZipLimits()
FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.keras"))


class Unseekable(io.RawIOBase):
    """A pipe: a writer that cannot go back must put sizes behind the data."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self.content += chunk
        return len(chunk)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, streamed: bool = False) -> bytes:
    pipe = Unseekable()
    stream = io.BytesIO()
    with zipfile.ZipFile(pipe if streamed else stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return bytes(pipe.content) if streamed else stream.getvalue()


def as_python_reads(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def real_archives() -> dict[str, bytes]:
    numpy_file, packed, torch_file = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(numpy_file, x=np.arange(5), y=np.ones(3))
    np.savez_compressed(packed, x=np.arange(500))
    torch.save({"w": torch.arange(5.0), "b": torch.zeros(3)}, torch_file)
    files = {"numpy": numpy_file, "numpy-compressed": packed, "torch": torch_file}
    members = {"a": b"x" * 1000, "b/c.txt": b"", "é": b"1"}
    return {
        **{name: stream.getvalue() for name, stream in files.items()},
        **{path.stem: path.read_bytes() for path in FIXTURES},
        "deflated": zipped(members),
        "stored": zipped(members, zipfile.ZIP_STORED),
        "streamed": zipped(members, streamed=True),
        "streamed-stored": zipped(members, zipfile.ZIP_STORED, streamed=True),
    }


ARCHIVES = real_archives()


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_reads_what_python_reads(content: bytes) -> None:
    assert read_zip(FileBytes("a.zip", content), limits=LIMITS) == as_python_reads(content)


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_no_byte_can_be_added_taken_or_put_in_front(content: bytes) -> None:
    for changed in (b"\0" + content, content + b"\0", content[:-1], content[1:], content + content):
        with pytest.raises(ZipError):
            read_directory(FileBytes("a.zip", changed), limits=LIMITS)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(ARCHIVES)), st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(name: str, data: st.DataObject) -> None:
    content = bytearray(ARCHIVES[name])
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        members = read_zip(FileBytes("a.zip", bytes(content)), limits=LIMITS)
    except SecureAIError:
        return
    # times, versions, attributes and padding are not content; a name in both headers can only change in both
    assert members == as_python_reads(ARCHIVES[name])


def test_limits_are_exact() -> None:
    content = zipped({"a": bytes(100), "b": bytes(50)}, zipfile.ZIP_STORED)
    file = FileBytes("a.zip", content)
    assert len(read_zip(file, limits=ZipLimits(max_members=2, max_total_bytes=150, max_name_bytes=1))) == 2
    for limits in (ZipLimits(max_members=1), ZipLimits(max_total_bytes=149), ZipLimits(max_name_bytes=0)):
        with pytest.raises(ZipError):
            read_zip(file, limits=limits)


def test_the_ratio_counts_above_the_floor_only() -> None:
    content = zipped({"a": bytes(500_000)})
    packed = len(zlib.compress(bytes(500_000), 6)) - 6
    assert 500_000 / packed > 100
    file = FileBytes("a.zip", content)
    assert len(read_zip(file, limits=ZipLimits(member_floor_bytes=500_000))["a"]) == 500_000
    with pytest.raises(ZipError, match="bomb"):
        read_zip(file, limits=ZipLimits(member_floor_bytes=499_999))
    assert len(read_zip(file, limits=ZipLimits(member_floor_bytes=1, max_ratio=2000))["a"]) == 500_000
    with pytest.raises(ZipError, match="together"):
        read_zip(file, limits=ZipLimits(total_floor_bytes=1, max_ratio=100))


def test_order_of_the_directory_is_kept() -> None:
    names = ["z", "a", "m"]
    assert list(read_zip(FileBytes("a", zipped(dict.fromkeys(names, b"1"))), limits=LIMITS)) == names
