"""The page of defences from rows made up here: means, misses, and what was not measured."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from secure_ai.core.results import rate as counted

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("_page_defences")
    sys.path.remove(str(ROOT / "benchmarks"))
    for name in ("_page_defences", "_pages", "defences", "_defence_networks", "_defence_others", "_defence_speed",
                 "_record", "_package"):  # fmt: skip
        sys.modules.pop(name, None)


def rate(value: float) -> dict[str, Any]:
    return {"value": value, "ci_low": value - 0.01, "ci_high": value + 0.01, "n": 1000, "successes": 1000 * value}


def trained(clean: float, robust: float, verdict: str = "reliable") -> dict[str, Any]:
    found = {"clean_accuracy": rate(clean), "robust_accuracy": rate(robust), "trust": {"verdict": verdict}}
    return {
        "epochs": 13.0, "train_seconds": 600.0, "parameters": 225034, "measured": {"autoattack~1000": found},
        "compute": {"threads": 2, "device": "cpu", "training_dtype": "float32"},
    }  # fmt: skip


RESULT: dict[str, Any] = {"command": "c", "commit": "d", "versions": {"torch": "2"},
                          "machine": {"processor": "p", "cores": 2, "bf16_units": []}}  # fmt: skip


def cells(page: ModuleType, rows: dict[str, Any], title: str) -> list[list[str]]:
    """The table under `title`, without its head."""
    lines = page.defences(RESULT | {"rows": rows})
    after = lines[lines.index(title) + 1 :]
    first = next(number for number, line in enumerate(after) if line.startswith("| "))
    block = after[first : after.index("", first)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block[2:]]


def test_the_mean_the_worst_and_what_is_missing(page: ModuleType) -> None:
    rows = {"pgd-seed0": trained(0.99, 0.92), "pgd-seed1": trained(0.98, 0.89), "pgd-awp-seed0": trained(0.5, 0.1)}
    asked = {(row[0], row[1]): row[4] for row in cells(page, rows, "## Asked for")}
    assert asked["pgd", "AutoAttack, mean of the seeds"] == "yes"  # 90.5
    assert asked["pgd", "AutoAttack, the worst seed"] == "NO"  # 89.0
    assert asked["pgd", "clean, mean of the seeds"] == "yes"  # 98.5
    assert {asked[row] for row in asked if row[0] != "pgd"} == {"not measured"}
    assert len(asked) == len(page.AIMS)
    doubtful = cells(page, {"pgd-seed0": trained(0.99, 0.92, "doubtful")}, "## Asked for")
    assert [row[4] for row in doubtful if row[0] == "pgd"] == ["not to be trusted"] * 3
    missed = cells(page, {"pgd-seed0": trained(0.5, 0.2, "doubtful")}, "## Asked for")
    assert [row[4] for row in missed if row[0] == "pgd"] == ["NO"] * 3


def test_what_the_guard_did_is_shown(page: ModuleType) -> None:
    rows = {"fast-seed0": trained(0.98, 0.9) | {"rolled_back": [300]}, "art": trained(0.98, 0.9)}
    spent = {row[0]: row[2] for row in cells(page, rows, "## Trained networks")}
    assert "step 300" in spent["fast-seed0"]
    assert "step" not in spent["art"]


def test_a_training_that_was_cut_says_of_how_many_epochs(page: ModuleType) -> None:
    """A whole one falls a little short of its epochs: each leaves out its last, incomplete batch."""
    rows = {f"{epochs}": trained(0.98, 0.9) | {"epochs": epochs, "row_epochs": 13} for epochs in (11.31, 12.5, 12.97)}
    spent = {row[0]: row[2].partition(",")[0] for row in cells(page, rows, "## Trained networks")}
    assert spent == {"11.31": "11.31 of 13 epochs", "12.5": "12.5 of 13 epochs", "12.97": "12.97 epochs"}


def test_what_a_row_said_before_it_was_measured_again_stays(page: ModuleType) -> None:
    before = trained(0.98, 0.9) | {"rolled_back": [300], "commit": "abc"}
    before["measured"] = {page.FAST: before["measured"]["autoattack~1000"]}
    for replaced, lines in (([before], 1), ([], 0)):
        said = page.defences(RESULT | {"rows": {"fast-seed0": trained(0.98, 0.88) | {"replaced": replaced}}})
        assert sum("abc" in line and "90.0" in line and "step 300" in line for line in said) == lines


def test_every_measurement_has_its_line(page: ModuleType) -> None:
    rows = {"pgd-seed0": trained(0.99, 0.92), "speed-pgd": {"steps_a_second": 10.0, "epochs": 13, "minutes": 10.0,
            "machine": "m"}}  # fmt: skip
    ((name, parameters, _, where, n, attack, clean, attacked, certified, verdict),) = cells(
        page, rows, "## Trained networks"
    )
    assert (name, parameters, n, attack, verdict, certified) == (
        "pgd-seed0", "225034", "1000", "autoattack", "reliable", "-",
    )  # fmt: skip
    assert (clean.split()[0], attacked.split()[0]) == ("99.0", "92.0")
    assert where == "2 threads of a CPU, float32"
    assert cells(page, rows, "## Minutes on two threads")[0][:4] == ["pgd", "10.0", "13", "10.0"]


def finished(folder: Path, *sections: str) -> Path:
    """A hand-made report with one table of one rate under each name."""
    folder.mkdir()
    column = [{"id": "model", "title": "network"}, {"id": "suite", "title": "suite"}]
    row = [{"kind": "model", "id": "defences/trades"}, counted(900, 1000).as_json()]
    run = {"id": "0", "recipe": "standard", "complete": True, "seconds": 1.0, "seed": 42, "command": "secure-ai run",
           "machine": {"processor": "p", "cores": 2, "bf16_units": []}, "versions": {"torch": "2"}}  # fmt: skip
    empty: dict[str, Any] = {name: [] for name in ("models", "data", "measurements", "reproduction", "findings",
                                                   "threats", "not_tested")}  # fmt: skip
    tables = [{"id": name, "title": f"of {name}", "intro": "", "columns": column, "rows": [row]} for name in sections]
    report = {"tool": {"name": "secure-ai", "version": "0"}, "run": run, **empty, "sections": tables}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return folder


def test_the_card_of_a_run_is_kept_and_shown(page: ModuleType, tmp_path: Path) -> None:
    bench = importlib.import_module("defences")
    run = finished(tmp_path / "run", "defences/card", "training/other", "defences/classes", "confidence/trades")
    kept = bench.card(run, "abc123") | {"command": "c"}
    assert (kept["commit"], kept["machine"]["cores"]) == ("abc123", 2)
    lines = page.card(kept)
    titles = [line for line in lines if line.startswith("### ")]
    assert titles == ["### of defences/card", "### of defences/classes", "### of confidence/trades"]
    assert lines.count("| defences/trades | 90.00 % [87.98, 91.71], n = 1,000 |") == 3


@pytest.mark.parametrize(("sections", "commit"), [(["defences/card"], ""), (["confidence/trades"], "abc123")])
def test_a_run_of_other_code_or_without_a_card_is_refused(
    page: ModuleType, tmp_path: Path, sections: list[str], commit: str
) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module("defences").card(finished(tmp_path / "run", *sections), commit)
