"""Writing without halves: temporary file, fsync, rename, fsync of the folder; and the lock of a folder.

A reader sees the old file or the new one. After a kill a temporary file may stay behind; `remove_stale` clears those.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secure_ai.core.errors import EnvironmentFailedError, FileKindError, LockedError

TEMPORARY_PREFIX = ".secure-ai-tmp-"
LOCK_NAME = ".lock"


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
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileKindError("the output is not a regular file", where=path.name, hint="remove it first")
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise EnvironmentFailedError(
            "the file cannot be written", where=path, got=error.strerror, hint="is the disk full or read-only?"
        ) from None


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON with a final newline. NaN and infinity are refused (ValueError)."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
