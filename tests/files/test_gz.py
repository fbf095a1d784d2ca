"""One clean gzip member passes; whatever Python's own module joins, skips or swallows is refused."""

import gzip
import os
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import GzipError, SizeLimitError
from secure_ai.files.gz import MAX_RATIO, gunzip, gunzip_head, is_gzip

BODY = bytes(range(256)) * 40
CLEAN = gzip.compress(BODY, mtime=0)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200_000).filter(lambda body: not is_gzip(body)))
def test_round_trip(body: bytes) -> None:
    assert gunzip(gzip.compress(body, mtime=0), where="f", max_bytes=200_000) == body


def test_round_trip_of_more_than_one_step() -> None:
    body = os.urandom(700_000)
    assert gunzip(gzip.compress(body, 1, mtime=0), where="f", max_bytes=len(body)) == body


def test_the_limit_itself_is_allowed_and_one_byte_less_is_not() -> None:
    assert gunzip(CLEAN, where="f", max_bytes=len(BODY)) == BODY
    with pytest.raises(SizeLimitError, match=r"where: f"):
        gunzip(CLEAN, where="f", max_bytes=len(BODY) - 1)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x1f\x8b", id="magic only"),
        pytest.param(BODY, id="not gzip"),
        pytest.param(CLEAN[:-1], id="length cut"),
        pytest.param(CLEAN[: len(CLEAN) // 2], id="half"),
        pytest.param(CLEAN[:-8] + bytes(4) + CLEAN[-4:], id="bad CRC"),
        pytest.param(CLEAN[:-4] + b"\x01\x00\x00\x00", id="bad length"),
        pytest.param(CLEAN + CLEAN, id="two members"),
        pytest.param(CLEAN + gzip.compress(b"", mtime=0), id="an empty second member"),
        pytest.param(CLEAN + b"\x00", id="a zero byte behind, which Python's gzip swallows"),
        pytest.param(CLEAN + bytes(100_000), id="many zero bytes behind"),
        pytest.param(CLEAN + b"PK\x03\x04", id="a ZIP behind"),
        pytest.param(gzip.compress(CLEAN, mtime=0), id="gzip in gzip"),
    ],
)
def test_anything_but_one_clean_member_is_refused(content: bytes) -> None:
    with pytest.raises(GzipError) as caught:
        gunzip(content, where="f.gz", max_bytes=10**6)
    assert caught.value.where == "f.gz"


def zero_bomb(head: bytes, mebibytes: int) -> bytes:
    """One valid gzip member: `head`, then that many MiB of zeros, about 1 kB each; one MiB is packed, and repeated."""
    packer = zlib.compressobj(9, wbits=-15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = bytes(1 << 20)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(head)
    for _ in range(mebibytes):
        checksum = zlib.crc32(zeros, checksum)
    tail = struct.pack("<2I", checksum, len(head) + (mebibytes << 20))
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + start + block * mebibytes + b"\x03\0" + tail


def test_a_bomb_stops_while_inflating() -> None:
    small = zero_bomb(b"", 1)
    assert gunzip(small, where="f", max_bytes=1 << 20) == gzip.decompress(small) == bytes(1 << 20)
    bomb = zero_bomb(b"", 1024)
    assert len(bomb) < 1_200_000
    tracemalloc.start()
    with pytest.raises(SizeLimitError) as refused:
        gunzip(bomb, where="bomb.gz", max_bytes=2 * 1024**3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024**2
    assert str(MAX_RATIO) in refused.value.expected


def test_a_short_uniform_file_is_no_bomb() -> None:
    equal_labels = bytes(60_000)
    assert gunzip(gzip.compress(equal_labels, mtime=0), where="f", max_bytes=60_000) == equal_labels


def test_head() -> None:
    assert gunzip_head(CLEAN, 16, where="f") == BODY[:16]
    assert gunzip_head(gzip.compress(b"abc", mtime=0), 16, where="f") == b"abc"
    with pytest.raises(GzipError):
        gunzip_head(b"\x1f\x8b\x00\x00" + BODY, 16, where="f")
