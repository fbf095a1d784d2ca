"""Which Python files are under a path, read once and safely: what is audited is exactly these bytes.

A link, a pipe, a file that may not be read, a huge one: each is listed with its reason, none is passed over in silence.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from secure_ai.core.errors import FileMissingError, SecureAIError, SizeLimitError, printable
from secure_ai.files.open import MIB, read_beneath

MAX_FILES = 20_000
MAX_FILE_BYTES = 2 * MIB  # Python's own parser needs about 100 times a source's size
MAX_TOTAL_BYTES = 128 * MIB
SUFFIXES = (".py", ".pyw")
NOTEBOOK = ".ipynb"
UNREADABLE = {  # what Python or a shell would run and Bandit cannot read: named, so that it is not taken for checked
    **dict.fromkeys((".pyc", ".pyo"), "compiled Python"),
    **dict.fromkeys((".so", ".pyd", ".dll", ".dylib", ".exe"), "native code"),
    **dict.fromkeys((".whl", ".egg", ".pyz"), "an archive that Python imports from"),
    **dict.fromkeys((".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmd"), "a shell script"),
    **dict.fromkeys((".pyx", ".pxd"), "Cython"),
    ".pth": "a path file (Python runs its import lines), or a model",
}
PYTHON = "Python"
_HEAD_BYTES = 128
_NATIVE = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xca\xfe\xba\xbe")


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
    unreadable: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def not_python(self, name: str, kind: str) -> None:
        """A file that can run and is no Python source; those of one kind in one folder become one entry."""
        self.unreadable.setdefault((name.rpartition("/")[0], kind), []).append(name)

    def all_skipped(self) -> tuple[Skipped, ...]:
        for (folder, kind), names in self.unreadable.items():
            if len(names) == 1:
                self.skip(names[0], f"{kind} is not checked")
            else:
                self.skip(
                    folder or ".", f"{kind} is not checked: {len(names)} files, {names[0].rpartition('/')[2]}, ..."
                )
        return tuple(self.skipped)

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
    return Inventory(sources, found.all_skipped(), tuple(found.excluded))


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
    elif not (named or place.suffix in SUFFIXES) and (kind := _kind(place)) != PYTHON:
        if kind:
            found.not_python(name, kind)
    elif not name.isprintable():
        found.skip(name, "the name has unprintable characters")
    else:
        try:
            return read_beneath(root, name, max_bytes=MAX_FILE_BYTES).content
        except SecureAIError as error:
            found.skip(name, f"{error.message}; got: {error.got}" if error.got else error.message)
    return None


def _kind(place: Path) -> str:
    """What can run in a file not called `.py`: PYTHON, another kind, or nothing. No pipe or device is opened."""
    if place.suffix.lower() in UNREADABLE:
        return UNREADABLE[place.suffix.lower()]
    if place.suffix or place.is_symlink() or not place.is_file():
        return ""
    try:
        with place.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return "a file that cannot be read"
    if head.startswith(_NATIVE):
        return "native code"
    if head.startswith(b"#!"):
        return PYTHON if b"python" in head.split(b"\n")[0] else "a script in another language"
    return ""
