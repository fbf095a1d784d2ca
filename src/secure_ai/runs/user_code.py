"""The user's code in a stage's key: what makes the network, or a key that no later run meets.

A stage is reused only where all that makes the network is seen: what is read, imported or decided elsewhere is not.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from secure_ai.files.open import read_file
from secure_ai.models.load.artifact import MAX_CODE_BYTES, read_arch

MAX_FILES = 200
LOADERS = frozenset({"importlib", "imp", "runpy", "pkgutil", "zipimport", "ctypes"})
"""Modules that bring in code under names that an import does not show."""

ELSEWHERE = frozenset({
    *("open", "read_text", "read_bytes", "load", "safe_load", "load_file", "loadtxt", "genfromtxt", "fromfile"),
    *("memmap", "imread", "read_csv", "from_pretrained", "load_state_dict_from_url", "urlopen", "getenv", "environ"),
    *("__import__", "import_module", "exec", "eval"),
})  # fmt: skip
"""Names that read a file, a service or the environment, or run what stands there."""


def code_key(arch: str | None, model: str | None) -> str:
    """Digest of every `.py` file in the folder of FILE.py and below, but in hidden ones, and the packages they import.

    Never the same twice where that is not all that makes the network: a module, code that makes weights of its own or
    asks a service (no model file), more than MAX_FILES files, a linked folder, an import from elsewhere that is no
    installed package (or one that is installed to be edited), or a name of ELSEWHERE.
    """
    if arch is None:
        return ""
    parsed = read_arch(arch)
    if not parsed.folder:
        return _never() if parsed.module else hashlib.sha256().hexdigest()
    files = sorted(itertools.islice(_python_files(parsed.folder), MAX_FILES + 1))
    if model is None or len(files) > MAX_FILES or _has_linked_folder(parsed.folder):
        return _never()
    digest = hashlib.sha256(parsed.code_sha256.encode())
    packages: set[str] = set()
    for path in files:
        file = read_file(path, max_bytes=MAX_CODE_BYTES)
        names = _imported(file.content)
        if names is None:
            return _never()
        packages |= names
        digest.update(path.relative_to(parsed.folder).as_posix().encode() + b"\0" + file.sha256.encode())
    installed = importlib.metadata.packages_distributions()
    for name in sorted(packages - sys.stdlib_module_names - {"secure_ai"}):  # whose source is in every key
        if _is_beside(parsed.folder, name):
            continue
        version = _version(name, installed)
        if not version:
            return _never()
        digest.update(f"{name}\0{version}".encode())
    return digest.hexdigest()


def _never() -> str:
    return f"not reused: {time.time_ns()}"


def _entries(folder: str) -> Iterator[Path]:
    """What is in `folder` and below; hidden folders left out: a `.venv` holds no code of the network's own."""
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, name) for name in (*folders, *files))


def _python_files(folder: str) -> Iterator[Path]:
    return (path for path in _entries(folder) if path.suffix == ".py" and not path.is_dir())


def _has_linked_folder(folder: str) -> bool:
    return any(path.is_symlink() and path.is_dir() for path in _entries(folder))


def _is_beside(folder: str, name: str) -> bool:
    return Path(folder, f"{name}.py").is_file() or Path(folder, name).is_dir()


def _imported(code: bytes) -> set[str] | None:
    """First names of what the file imports; None where it uses a name of ELSEWHERE, or is not Python."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} if node.level == 0 else set()
            if any(alias.name in ELSEWHERE for alias in node.names):
                return None
        elif (isinstance(node, ast.Name) and node.id in ELSEWHERE) or (
            isinstance(node, ast.Attribute) and node.attr in ELSEWHERE
        ):
            return None
    return None if found & LOADERS else found


def _version(name: str, installed: Mapping[str, list[str]]) -> str:
    """The versions of what brings the package; empty where nothing does, or it may be edited in place."""
    distributions = [importlib.metadata.distribution(one) for one in dict.fromkeys(installed.get(name, ()))]
    if any(_is_editable(one) for one in distributions):
        return ""
    return ", ".join(f"{one.metadata['Name']} {one.version}" for one in distributions)


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    try:
        url = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return True
    return bool(url.get("dir_info", {}).get("editable"))
