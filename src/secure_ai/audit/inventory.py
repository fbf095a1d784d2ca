"""Which Python files are under a path, read once and safely: what is audited is exactly these bytes.

A link, a pipe, a file that may not be read, a huge one: each is listed with its reason, none is passed over in silence.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from secure_ai.core.errors import FileMissingError, SecureAIError, SizeLimitError, printable
from secure_ai.files.open import MIB, read_beneath

MAX_FILES = 20_000
MAX_FILE_BYTES = 2 * MIB  # Python's own parser needs about 100 times a source's size
MAX_TOTAL_BYTES = 128 * MIB
SUFFIXES = (".py", ".pyw")
NOTEBOOK = ".ipynb"
_SHEBANG_BYTES = 128


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not checked, and why."""

    location: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Sources by relative name, what could not be read, and what was left out on request."""

    sources: dict[str, bytes]
    skipped: tuple[Skipped, ...]
    excluded: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents: what code this audit is about."""
        total = hashlib.sha256()
        for name in sorted(self.sources):
            total.update(name.encode() + b"\0" + hashlib.sha256(self.sources[name]).digest())
        return total.hexdigest()


@dataclass(slots=True)
class _Found:
    """What was met on the way and is not audited."""

    skipped: list[Skipped]
    excluded: list[str]

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append(Skipped(printable(name), printable(reason)))

    def folder_failed(self, error: OSError) -> None:
        self.skip(os.path.basename(error.filename or "?"), f"the folder cannot be read: {error.strerror}")


def take_inventory(path: Path, exclude: Sequence[str] = ()) -> Inventory:
    """Read every Python source at or under `path`.

    Args:
        path: a file or a folder.
        exclude: names or patterns of folders and files to leave out, e.g. `.venv`; what they matched is listed.

    Raises:
        FileMissingError: there is nothing at `path`.
        SizeLimitError: more files or bytes than an audit takes.
    """
    if not path.exists():
        raise FileMissingError("there is nothing to audit", where=path, expected="a Python file or a folder")
    root = path if path.is_dir() else path.parent
    found = _Found([], [])
    sources: dict[str, bytes] = {}
    total = 0
    for name in _names(root, exclude, found) if path.is_dir() else [path.name]:
        content = _read(root, name, found, named=not path.is_dir())
        if content is None:
            continue
        total += len(content)
        if len(sources) >= MAX_FILES or total > MAX_TOTAL_BYTES:
            expected = f"<= {MAX_FILES} files and {MAX_TOTAL_BYTES} bytes"
            raise SizeLimitError("too much code for one audit", where=path, expected=expected, hint="audit its parts")
        sources[name] = content
    return Inventory(sources, tuple(found.skipped), tuple(found.excluded))


def _names(root: Path, exclude: Sequence[str], found: _Found) -> Iterator[str]:
    """Relative names of all files, sorted. Links to folders are not followed but named, so that they show."""
    for folder, folders, files in os.walk(root, onerror=found.folder_failed):
        inside = Path(folder).relative_to(root)
        links = [name for name in folders if (root / inside / name).is_symlink()]
        kept = [name for name in folders if not _matches(name, exclude)]
        found.excluded += [printable((inside / name).as_posix()) for name in sorted(set(folders) - set(kept))]
        folders[:] = sorted(set(kept) - set(links))
        for name in sorted([*files, *(set(links) & set(kept))]):
            if _matches(name, exclude):
                found.excluded.append(printable((inside / name).as_posix()))
            else:
                yield (inside / name).as_posix()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _read(root: Path, name: str, found: _Found, *, named: bool) -> bytes | None:
    """The bytes of `name` where it is Python; None where it is not, or was skipped."""
    place = root / name
    if place.is_dir():
        found.skip(name, "a link to a folder is not followed")
    elif place.suffix == NOTEBOOK:
        found.skip(name, "notebooks are not checked")
    elif not (named or place.suffix in SUFFIXES or _is_script(place)):
        return None
    elif not name.isprintable():
        found.skip(name, "the name has unprintable characters")
    else:
        try:
            return read_beneath(root, name, max_bytes=MAX_FILE_BYTES).content
        except SecureAIError as error:
            found.skip(name, f"{error.message}; got: {error.got}" if error.got else error.message)
    return None


def _is_script(place: Path) -> bool:
    """Whether a file without a suffix starts with a Python shebang. A pipe or device is not opened."""
    if place.suffix or place.is_symlink() or not place.is_file():
        return False
    try:
        with place.open("rb") as stream:
            first = stream.read(_SHEBANG_BYTES).split(b"\n")[0]
    except OSError:
        return False
    return first.startswith(b"#!") and b"python" in first
