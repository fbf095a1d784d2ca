"""Phrases of the texts before they were rewritten in plain English: none may come back where a user reads it.

Looked at: README, the pages of docs/, the help of every command, and every string of the package: error
texts, findings, report texts, docstrings.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PHRASES = (
    # riddles, and sentences whose subject is a sentence away
    "attack by queries", "attacks by queries", "nobody would see", "So does a suite", "may keep what it likes",
    "who allows one thread", "the error for a name or setting that is none", "rightly divided by", "Not so:",
    "not of that strength", "it believes no attack", "points of accuracy won", "broken at any distance",
    "broken at no distance", "ask this network again after a step", "prepare the images so", "asked again after the",
    "told by content", "be it by less", "shall withstand", "cannot be built anew", "examples made anew",
    "were broken anew", "made anew on", "keeps right", "images right under", "is not done", "as was asked then",
    # what new users stumbled over in reports
    "headline claims do not hold", "headline claims hold", "no headline claim that was contradicted",
    "FGSM on itself", "a whole suite on itself", "No finding beyond what the tool planted", "Of the budget that",
    "of the kinds that a claim needs: none", "findings in the audited code, the worst",
    "beyond what the strict readers refuse", "Adam's.", "Code, files and logs.",
    "Bring MNIST into the cache, verified",
    # history and experiments in pages for users
    "after that the patch was moved", "were read off single runs", "was measured three times, and all are shown",
    "which their command does not say", "the machine had become slower",
)  # fmt: skip
PAGES = sorted(path for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")])
MODULES = sorted((ROOT / "src" / "secure_ai").rglob("*.py"))


def flat(text: str) -> str:
    return " ".join(text.split()).lower()


def strings(source: str) -> Iterator[str]:
    """Every string of a module, the fixed parts of f-strings among them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value for part in node.values if isinstance(part, ast.Constant))  # type: ignore[misc]


def found_in(text: str) -> list[str]:
    plain = flat(text)
    return [phrase for phrase in PHRASES if phrase.lower() in plain]


@pytest.fixture(scope="module")
def of_the_package() -> dict[str, str]:
    texts = {path.relative_to(ROOT).as_posix(): " \n ".join(strings(path.read_text("utf-8"))) for path in MODULES}
    templates = (ROOT / "src" / "secure_ai").rglob("*.j2")
    return texts | {path.name: path.read_text("utf-8") for path in templates}


def test_there_are_about_forty_phrases() -> None:
    assert len(PHRASES) >= 40
    assert len(set(PHRASES)) == len(PHRASES)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_old_phrase_is_on_a_page(page: Path) -> None:
    assert found_in(page.read_text(encoding="utf-8")) == []


def test_no_old_phrase_is_in_a_text_of_the_package(of_the_package: dict[str, str]) -> None:
    assert {name: found for name, text in of_the_package.items() if (found := found_in(text))} == {}
    assert len(of_the_package) > 200


@pytest.mark.parametrize("text", ["the format is\n  TOLD BY content", f"x = f'{{n}} {PHRASES[4]} {{m}}'"])
def test_an_old_phrase_would_be_seen(text: str) -> None:
    assert found_in(text) != []
