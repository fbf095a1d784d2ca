"""The digest of a user's code: FILE.py and the Python files of its own folder, by name and content."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from secure_ai.files.open import read_file
from secure_ai.models.load.artifact import MAX_CODE_BYTES, read_arch

MAX_FILES = 1000


def code_digest(arch: str | None) -> str:
    """SHA-256 (hex) over what `--arch` names; empty for a built-in network, none, and a module `pkg.mod`.

    What the code reads or imports from elsewhere is not in it: `answers_digest` sees what comes of that.

    Args:
        arch: as for `read_arch`. Hidden and linked folders are left out; where more than MAX_FILES Python files stand
            in the folder and below, only those of the folder itself count.

    Raises:
        ArchError, SecureAIError: the file cannot be read, or is not Python.
    """
    parsed = None if arch is None else read_arch(arch)
    if parsed is None or not parsed.folder:
        return ""
    files = sorted(itertools.islice(_python_files(parsed.folder), MAX_FILES + 1))
    if len(files) > MAX_FILES:
        files = sorted(path for path in Path(parsed.folder).iterdir() if _is_python(path))
    digest = hashlib.sha256(f"secure-ai code 1\n{parsed.text}\n{parsed.code_sha256}\n".encode())
    for path in files:
        content = read_file(path, max_bytes=MAX_CODE_BYTES).sha256
        digest.update(f"{path.relative_to(parsed.folder).as_posix()!r} {content}\n".encode())
    return digest.hexdigest()


def _python_files(folder: str) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]  # a `.venv` holds no code of its own
        yield from (path for name in files if _is_python(path := Path(here, name)))


def _is_python(path: Path) -> bool:
    return path.suffix == ".py" and path.is_file()
