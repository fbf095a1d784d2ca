"""The generated pages are those of the committed results, short where people begin, and every row has its command."""

from __future__ import annotations

import copy
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]
PARTS = ("results_page", "_headline", "_pages", "_page_attacks", "_page_report", "_page_speed", "_page_zoo", "_record",
         "_package")  # fmt: skip


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("results_page")
    sys.path.remove(str(ROOT / "benchmarks"))
    for name in PARTS:
        sys.modules.pop(name, None)


def test_the_committed_pages_are_those_of_the_committed_results(page: ModuleType) -> None:
    made = page.pages()
    stale = [name for name, text in made.items() if (ROOT / "docs" / name).read_text(encoding="utf-8") != text]
    assert stale == []
    assert {f"results/{path.name}" for path in (ROOT / "docs" / "results").iterdir()} == set(made) - {"results.md"}


def test_the_committed_pictures_are_those_of_the_committed_results(page: ModuleType) -> None:
    results, shown = page.load(), "".join(page.pages().values())
    for name, (file, draw) in page.PICTURES.items():
        committed = (ROOT / "docs" / name).read_bytes()
        assert same_picture(committed, draw(results[file]))
        assert f"../{name})" in shown
        moved = copy.deepcopy(results[file])
        moved["rows"]["pgd-seed1"]["measured"]["fast~1000"]["robust_accuracy"]["value"] -= 0.01
        assert not same_picture(committed, draw(moved))


def same_picture(first: bytes, second: bytes) -> bool:
    """Some pixels at a letter's edge may differ from one machine to another."""
    pixels = [imread(io.BytesIO(png)) for png in (first, second)]
    return pixels[0].shape == pixels[1].shape and int((abs(pixels[0] - pixels[1]) > 0.5).sum()) < 50


def test_the_first_page_is_short_and_leads_with_ten_rows(page: ModuleType) -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 2500
    rows = page.headline(page.load())
    assert len(rows) == 10
    assert all(len(row) == len(page.COLUMNS) and row[-1].startswith("`scripts/bench ") for row in rows)
    assert all(any(letter.isdigit() for letter in row[-2]) for row in rows)  # n
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line for line in lines[2:12] if row_of(line) not in rows] == []


def row_of(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip("|").split(" | "))


def test_what_was_missed_is_listed(page: ModuleType) -> None:
    results = page.load()
    assert [row for row in results["pipeline"]["rows"]["ratios"] if not row["reached"]] != []
    reached = dict(results)
    reached["pipeline"] = {
        "rows": {"ratios": [row | {"reached": True} for row in results["pipeline"]["rows"]["ratios"]]}
    }
    assert len(page.missed(reached)) < len(page.missed(results))
