"""Tests assert fields, figures and error codes: a sentence may be put better without a test falling.

Looked at is what a test looks for in a text: `match="..."`, `"..." in text`, `text.startswith("...")` and its like.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PHRASE = re.compile(r"(?:\b[a-z]{2,}\b[ ,]+){2}[a-z]{2,}\b(?![.:_/])")
LOOKS_IN = frozenset({"startswith", "endswith", "count", "index", "find"})


def looked_for(tree: ast.AST) -> Iterator[ast.expr]:
    """What a test looks for in a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "match":
            yield node.value
        elif isinstance(node, ast.Assert):
            for inner in ast.walk(node.test):
                if isinstance(inner, ast.Compare) and isinstance(inner.ops[0], ast.In | ast.NotIn):
                    yield inner.left
                elif isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
                    yield from inner.args if inner.func.attr in LOOKS_IN else ()


def phrases(source: str) -> list[str]:
    """The sentences, or pieces of one, that a test's source looks for."""
    texts = (
        "0".join(str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant))
        for node in looked_for(ast.parse(source))
    )
    return [text for text in texts if PHRASE.search(text)]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('with raises(E, match="the file is too large"): pass', 1),
        ('assert "it has no labels" in str(error)', 1),
        ('assert text.startswith(f"read {n} of the files")', 1),
        ('assert error.value.where == "data.train"', 0),
        ('assert "40 of 40 images" in evidence', 0),
        ('assert "--data DIR" in error.value.hint', 0),
    ],
)
def test_a_sentence_is_told_from_a_field(source: str, count: int) -> None:
    assert len(phrases(source)) == count


def test_no_test_pins_a_sentence() -> None:
    files = {path.relative_to(TESTS).as_posix(): path for path in TESTS.rglob("test_*.py")}
    found = {name: phrases(path.read_text(encoding="utf-8")) for name, path in files.items() if path != Path(__file__)}
    assert {name: pinned for name, pinned in found.items() if pinned} == {}
