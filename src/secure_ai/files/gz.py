"""One clean gzip member, inflated in small steps: a bomb stops after a few megabytes, a tail is refused.

Python's own `gzip` module joins members silently and ignores zero bytes after them, so two readers could see different
data in one file (RFC 1952 section 2.2 allows several members; this tool never needs them).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from secure_ai.core.errors import GzipError, SizeLimitError

GZIP_MAGIC = b"\x1f\x8b"
STEP_BYTES = 64 * 1024
MAX_RATIO = 100  # as for ZIP members; deflate reaches 1032, pictures stay below 20
RATIO_FREE_BYTES = 1024 * 1024  # a short, uniform file (60,000 equal labels) may exceed the ratio


def is_gzip(content: bytes) -> bool:
    """Whether `content` starts as a gzip member."""
    return content.startswith(GZIP_MAGIC)


def gunzip_head(content: bytes, size: int, *, where: str) -> bytes:
    """The first `size` bytes of the member, or fewer where it is shorter; the checksum is not checked yet.

    Raises:
        GzipError: not a gzip member, or damaged within these bytes.
    """
    inflater = zlib.decompressobj(wbits=31)
    try:
        return inflater.decompress(content, size)
    except zlib.error as error:
        raise GzipError("the gzip stream is damaged", where=where, got=error) from None


def gunzip(content: bytes, *, where: str, max_bytes: int) -> bytes:
    """The content of exactly one gzip member; its CRC-32 and length (RFC 1952 section 2.3.1) are checked.

    Args:
        content: the whole file.
        where: its name, for messages.
        max_bytes: more than this is refused while inflating, as is more than 100 bytes out of one byte.

    Raises:
        GzipError: truncated, wrong checksum or length, a second member, trailing bytes, or a gzip member inside.
        SizeLimitError: the content is larger than `max_bytes`, or grows too fast.
    """
    chunks: list[bytes] = []
    total = 0
    for chunk, consumed in _inflate(content, where):
        total += len(chunk)
        if total > max_bytes:
            raise SizeLimitError("the gzip content is too large", where=where, expected=f"<= {max_bytes} bytes")
        if total > RATIO_FREE_BYTES + MAX_RATIO * consumed:
            raise SizeLimitError(
                "the gzip content grows too fast", where=where, expected=f"at most {MAX_RATIO} bytes out of one"
            )
        chunks.append(chunk)
    plain = b"".join(chunks)
    if is_gzip(plain):
        raise GzipError("gzip inside gzip", where=where, expected="one layer")
    return plain


def _inflate(content: bytes, where: str) -> Iterator[tuple[bytes, int]]:
    """Pieces of the content, each with the number of input bytes fed so far."""
    inflater = zlib.decompressobj(wbits=31)
    view = memoryview(content)
    fed = 0
    pending: bytes | memoryview = b""
    try:
        while not inflater.eof and (pending or fed < len(content)):
            if not pending:
                pending = view[fed : fed + STEP_BYTES]
                fed += len(pending)
            chunk = inflater.decompress(pending, STEP_BYTES)
            pending = inflater.unconsumed_tail
            yield chunk, fed - len(pending)
        while not inflater.eof and (chunk := inflater.decompress(b"", STEP_BYTES)):
            yield chunk, fed
    except zlib.error as error:
        raise GzipError("the gzip stream is damaged", where=where, got=error) from None
    if not inflater.eof:
        raise GzipError("the gzip stream is cut off", where=where, got=f"{len(content)} bytes")
    trailing = len(inflater.unused_data) + len(content) - fed
    if trailing:
        raise GzipError(
            "bytes stand after the gzip member", where=where, expected="one member", got=f"{trailing} bytes"
        )
