"""The one way to read a file: regular files only, never blocking, never following a link out, within a size limit.

The bytes are read once; digest, checks and parsing all use that one buffer, so a file swapped after the check is never
used (CWE-367).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from secure_ai.core.errors import (
    FileChangedError,
    FileKindError,
    FileMissingError,
    FileUnreadableError,
    PathEscapeError,
    SecureAIError,
    SizeLimitError,
    printable,
)

MIB = 1024 * 1024
MAX_PATH_BYTES = 4096


@dataclass(frozen=True)
class FileBytes:
    """A file's name (without folder, unprintable characters escaped) and the bytes that were read."""

    name: str
    content: bytes

    @cached_property
    def sha256(self) -> str:
        """Hex digest of `content`."""
        return hashlib.sha256(self.content).hexdigest()


def read_file(path: str | os.PathLike[str], *, max_bytes: int) -> FileBytes:
    """Read a file that the user named. A link is followed once, by name; what is opened must be a regular file.

    Args:
        max_bytes: a larger file is refused before it is read.

    Raises:
        FileMissingError, FileUnreadableError, FileKindError, SizeLimitError, FileChangedError
    """
    text = os.fspath(path)
    if "\x00" in text or not text or len(os.fsencode(text)) > MAX_PATH_BYTES:
        raise FileMissingError("not a usable path", where=text, expected="1 to 4096 bytes without NUL")
    real = os.path.realpath(text)
    return _read(real, os.path.basename(text), max_bytes, directory=None)


def read_beneath(root: Path, name: str, *, max_bytes: int) -> FileBytes:
    """Read `name` inside `root`: no absolute path, no `..`, no link at any level, no second hard link.

    Raises:
        PathEscapeError: the name leads elsewhere; and everything that `read_file` raises.
    """
    parts = name.split("/")
    if name.startswith("/") or "\x00" in name or any(part in ("", ".", "..") for part in parts):
        raise PathEscapeError("the path must stay inside its folder", where=name, expected="a plain relative path")
    descriptor = _open(os.path.realpath(root), name, os.O_DIRECTORY, None)
    try:
        for part in parts[:-1]:
            inner = _open(part, name, os.O_DIRECTORY, descriptor)
            os.close(descriptor)
            descriptor = inner
        return _read(parts[-1], name, max_bytes, directory=descriptor)
    finally:
        os.close(descriptor)


def _open(path: str, name: str, flags: int, directory: int | None) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)
    except OSError as error:
        raise _translate(error, name) from None


def _translate(error: OSError, name: str) -> SecureAIError:
    if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR):
        return FileKindError("a link or a non-folder stands in the path", where=name, expected="real folders and files")
    if error.errno in (errno.EACCES, errno.EPERM):
        return FileUnreadableError("the file may not be read", where=name, got=error.strerror)
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return FileKindError("not a regular file", where=name, got=error.strerror)
    return FileMissingError("the file cannot be opened", where=name, got=error.strerror)


def _read(path: str, name: str, max_bytes: int, *, directory: int | None) -> FileBytes:
    descriptor = _open(path, name, 0, directory)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise FileKindError("not a regular file", where=name, expected="a regular file", got=_kind(before.st_mode))
        if directory is not None and before.st_nlink != 1:
            raise FileKindError("the file has several hard links", where=name, expected="1 link", got=before.st_nlink)
        if before.st_size > max_bytes:
            raise SizeLimitError(
                "the file is too large", where=name, expected=f"<= {max_bytes} bytes", got=before.st_size
            )
        content = _read_all(descriptor, before.st_size)
        after = os.fstat(descriptor)
        if len(content) != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise FileChangedError("the file changed while it was read", where=name, hint="read it again when at rest")
        return FileBytes(printable(name), content)
    except OSError as error:
        raise FileUnreadableError("the file cannot be read", where=name, got=error.strerror) from None
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    chunks: list[bytes] = []
    remaining = size + 1  # one more than announced, so that a growing file shows
    while remaining > 0 and (chunk := os.read(descriptor, min(remaining, 16 * MIB))):
        chunks.append(chunk)
        remaining -= len(chunk)
    return b"".join(chunks)


def _kind(mode: int) -> str:
    names = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}
    return names.get(stat.S_IFMT(mode), "a device")
