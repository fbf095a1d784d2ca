"""The benchmarks reach the package through one module, so that a moved name is mended at one place."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
THE_MODULE = "_package.py"


def reached(text: str) -> set[str]:
    """Names of the package's modules that a source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.partition(".")[0] == "secure_ai"}


def taken(text: str) -> set[str]:
    """Names that a source imports from the one module."""
    imports = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom))
    return {alias.name for node in imports if node.module == "_package" for alias in node.names}


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("_package")
    del sys.modules["_package"]


@pytest.mark.parametrize("text", ["import secure_ai", "def f():\n    from secure_ai.core.seeds import generator"])
def test_an_import_is_found_wherever_it_stands(text: str) -> None:
    assert reached(text)


def test_only_one_module_imports_the_package() -> None:
    files = {path.relative_to(BENCHMARKS).as_posix(): path for path in BENCHMARKS.rglob("*.py")}
    importing = {name for name, path in files.items() if reached(path.read_text(encoding="utf-8"))}
    assert importing == {THE_MODULE}


def test_it_has_what_the_others_take_and_no_more(package: object) -> None:
    used = {name for path in BENCHMARKS.rglob("*.py") for name in taken(path.read_text(encoding="utf-8"))}
    assert {name for name in used if not hasattr(package, name)} == set()
    tree = ast.parse((BENCHMARKS / THE_MODULE).read_text(encoding="utf-8"))
    offered = {
        alias.name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    assert offered - {"annotations"} == used
