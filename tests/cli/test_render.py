"""The end of a run fits on a screen: the verdict, the worst, what is missing, where the report is, why it exits so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from secure_ai.cli.render import SUMMARY_LINES, SUMMARY_WIDTH, print_checks, print_run
from secure_ai.core.trust import check
from secure_ai.report.model import Report, parse_report
from secure_ai.runs.verbs.run import RunResult

WHY = "exit 0: done"


def typed(content: dict[str, Any]) -> Report:
    return parse_report(json.dumps(content).encode(), "report.json")


def told(capsys: pytest.CaptureFixture[str], content: dict[str, Any], *, verbose: bool = False) -> list[str]:
    result = RunResult(typed(content), Path("secure_ai_outputs"), 0, ())
    print_run(result, as_json=False, verbose=verbose, why=WHY)
    return capsys.readouterr().out.splitlines()


def height(lines: list[str]) -> int:
    """Lines of the narrowest usual terminal."""
    return sum(max(1, math.ceil(len(line) / SUMMARY_WIDTH)) for line in lines)


def wordy(report: dict[str, Any]) -> dict[str, Any]:
    """The longest that everything can be."""
    long = "a sentence that goes on and on " * 20
    report["models"][0] |= {"role": "subject", "title": "mine.pt", "fixes": [long, long]}
    report["findings"] = [finding | {"message": long, "planted": False} for finding in report["findings"]]
    report["not_tested"] = [long] * 9
    return report


@pytest.mark.parametrize("long", [False, True])
def test_a_run_ends_in_fifteen_lines_and_the_last_says_why(
    capsys: pytest.CaptureFixture[str], report: dict[str, Any], long: bool
) -> None:
    lines = told(capsys, wordy(report) if long else report)
    assert SUMMARY_LINES == 15
    assert 5 <= height(lines) <= SUMMARY_LINES
    assert lines[-1] == WHY
    assert lines[-2].startswith("report: ")
    assert "secure_ai_outputs/report.html" in lines[-2]
    assert sum(line.startswith("- ") for line in lines) == 3  # the worst three
    assert any(line.startswith("not tested") for line in lines)


def test_tables_are_for_those_who_ask(capsys: pytest.CaptureFixture[str], report: dict[str, Any]) -> None:
    short = told(capsys, report)
    lines = told(capsys, report, verbose=True)
    assert len(lines) > 3 * len(short)
    assert lines[-len(short) :] == short


def test_a_users_run_speaks_of_their_file(capsys: pytest.CaptureFixture[str], sample: ModuleType) -> None:
    report = sample.subject_report(0.11)
    report["models"][0]["title"] = "mine.pt"
    text = "\n".join(told(capsys, report))
    assert text.startswith("NOT ROBUST: mine.pt: ")
    assert "8/255" in text
    assert "subject" not in text
    assert "published" not in text
    assert "claim" not in text


def test_what_says_the_same_of_several_checks_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    settled = "verdict already doubtful"
    made = [check("one", None, settled), check("two", None, settled), check("three", False, settled),
            check("four", True, "")]  # fmt: skip
    print_checks(made)
    out = capsys.readouterr().out
    assert out.count(settled) == 2  # a failed check and those not run are told apart
    assert "one, two" in " ".join(out.split())
    assert "1 of 4 checks passed: four" in out
