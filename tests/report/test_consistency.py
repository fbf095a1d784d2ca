"""A report that contradicts itself is not shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_ai.core.errors import FormatError
from secure_ai.core.results import rate
from secure_ai.report.model import parse_report
from secure_ai.runs.verbs.report import read_report

Change = Callable[[dict[str, Any]], Any]


def with_trust(verdict: str, outcome: str) -> Change:
    trust = {"verdict": verdict, "checks": [{"id": "access", "outcome": outcome, "evidence": "made up"}]}
    return lambda report: report["measurements"][0].update(trust=trust)


def with_section(value: float) -> Change:
    cell = rate(1, 2).as_json() | {"value": value}
    section = {"id": "s", "title": "", "intro": "", "columns": [{"id": "c", "title": "c"}], "rows": [[cell]]}
    return lambda report: report.update(sections=[section])


@pytest.mark.parametrize(
    "change",
    [
        lambda report: None,
        with_trust("reliable", "pass"),
        with_trust("doubtful", "fail"),
        with_trust("doubtful", "not_run"),
        with_trust("broken", "fail"),
        with_section(0.5),
    ],
)
def test_what_agrees_is_read(report: dict[str, Any], tmp_path: Path, change: Change) -> None:
    change(report)
    content = json.dumps(report).encode()
    (tmp_path / "report.json").write_bytes(content)
    assert read_report(tmp_path) == parse_report(content, "report.json")


@pytest.mark.parametrize(
    ("change", "where", "expected"),
    [
        (with_trust("reliable", "fail"), "report-1/baseline/clean", "doubtful"),
        (with_trust("reliable", "not_run"), "report-1/baseline/clean", "doubtful"),
        (with_trust("doubtful", "pass"), "report-1/baseline/clean", "reliable"),
        (with_trust("broken", "pass"), "report-1/baseline/clean", "reliable"),
        (with_trust("broken", "not_run"), "report-1/baseline/clean", "doubtful"),
        (lambda report: report["measurements"][0]["value"].update(value=0.5), "report-1/baseline/clean", "0.9895"),
        (lambda report: report["measurements"][0]["value"].update(ci_low=0.5), "report-1/baseline/clean", "0.9895"),
        (with_section(0.6), "s", "0.5"),
    ],
)
def test_what_does_not_is_refused(
    report: dict[str, Any], tmp_path: Path, change: Change, where: str, expected: str
) -> None:
    change(report)
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(FormatError) as refused:
        read_report(tmp_path)
    assert (refused.value.where, refused.value.expected) == (f"report.json, {where}", expected)
