"""Writing without halves: temporary file, fsync, rename, fsync of the folder; and the lock of a folder.

A reader sees the old file or the new one. After a kill a temporary file may stay behind; `remove_stale` clears those.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secure_ai.core.errors import EnvironmentFailedError, FileKindError, LockedError, PathEscapeError

TEMPORARY_PREFIX = ".secure-ai-tmp-"
LOCK_NAME = ".lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def make_folder(path: Path) -> Path:
    """Create `path` and its parents where missing. Raises EnvironmentFailedError when that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailedError(
            "the folder cannot be made", where=path, got=error.strerror, hint="choose another with --out"
        ) from None
    return path


def refuse_unwritable(path: Path) -> None:
    """Refuse an output path before the work that would fill it.

    Raises:
        EnvironmentFailedError: its folder is missing or not writable.
        FileKindError: something that is not a regular file stands there.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileKindError("the output is not a regular file", where=path.name, hint="remove it first")
    if not path.parent.is_dir():
        raise EnvironmentFailedError("there is no such folder", where=path.parent, hint="make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise EnvironmentFailedError("the folder cannot be written to", where=path.parent, expected="a writable folder")


def write_bytes(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put `content` at `path`, whole or not at all.

    Args:
        mode: permission bits of the new file, whatever the umask.

    Raises:
        EnvironmentFailedError: disk full, folder not writable, or any other refusal of the file system.
        FileKindError: something that is not a regular file stands at `path`.
    """
    try:
        folder = os.open(path.parent, _FOLDER)
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        _write_in(folder, path.name, content, mode, path)
    finally:
        os.close(folder)


def write_beneath(root: Path, name: str, content: bytes, *, mode: int = 0o644) -> None:
    """As `write_bytes`, at `name` (parts separated by `/`) inside `root`; missing folders are made.

    Raises:
        PathEscapeError: the name leads elsewhere.
        FileKindError: a link, or no folder, stands in the path below `root`; and what `write_bytes` raises.
    """
    parts = name.split("/")
    if "\x00" in name or any(part in ("", ".", "..") for part in parts):
        raise PathEscapeError("the path must stay inside its folder", where=name, expected="a plain relative path")
    try:
        folder = os.open(root, _FOLDER)
    except OSError as error:
        raise _cannot_write(root, error) from None
    try:
        for part in parts[:-1]:
            inner = _inner_folder(folder, part, root / name)
            os.close(folder)
            folder = inner
        _write_in(folder, parts[-1], content, mode, root / name)
    finally:
        os.close(folder)


def _inner_folder(folder: int, part: str, path: Path) -> int:
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, dir_fd=folder)  # beneath a descriptor
        return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            where = f"{path.name}, {part}"
            raise FileKindError("a link or no folder stands in the path", where=where, hint="remove it first") from None
        raise _cannot_write(path, error) from None


def _write_in(folder: int, name: str, content: bytes, mode: int, path: Path) -> None:
    """Write a temporary file in an open folder, then rename it."""
    temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        _refuse_other_kinds(folder, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise _cannot_write(path, error) from None


def _refuse_other_kinds(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise FileKindError("the output is not a regular file", where=name, hint="remove it first")


def _cannot_write(path: Path, error: OSError) -> EnvironmentFailedError:
    hint = "is the disk full or read-only?"
    return EnvironmentFailedError("the file cannot be written", where=path, got=error.strerror, hint=hint)


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON with a final newline. NaN and infinity are refused (ValueError)."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def remove_stale(folder: Path) -> int:
    """Delete temporary files that a killed run left below `folder`; call it under the lock. Returns how many."""
    stale = [path for path in folder.rglob(f"{TEMPORARY_PREFIX}*") if path.is_file() and not path.is_symlink()]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` against every other run; the kernel frees the lock when this process dies.

    Raises:
        LockedError: another process holds it.
        EnvironmentFailedError: the lock file cannot be made.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EnvironmentFailedError("the folder cannot be locked", where=folder, got=error.strerror) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                "another run holds this folder", where=folder, hint="wait for it, or choose another with --out"
            ) from None
        yield
    finally:
        os.close(descriptor)
