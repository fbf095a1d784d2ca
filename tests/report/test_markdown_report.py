"""Markdown and the threat model: the same content, and names that stay text."""

from __future__ import annotations

import json
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from secure_ai.core.results import rate
from secure_ai.report.model import Report, parse_report
from secure_ai.report.render.markdown import escape, render_markdown
from secure_ai.report.render.threat_model import render_threat_model
from secure_ai.report.render.verdict import verdict
from secure_ai.runs.cases.table import CASES
from secure_ai.threats.register import threat_rows
from secure_ai.threats.taxonomy import STRIDE

REGISTER = [row for case in CASES for row in case.threats]


def typed(content: dict[str, Any]) -> Report:
    return parse_report(json.dumps(content).encode(), "report.json")


def test_summary_holds_verdict_and_tables(report: dict[str, Any]) -> None:
    text = render_markdown(typed(report))
    assert text.startswith(f"## secure-ai: {verdict(typed(report)).word}")
    for title in ("Published figures (headlines)", "Measurements", "Findings", "STRIDE rows measured", "Not tested"):
        assert f"### {title}\n" in text
    assert "99.20 % \\[99.01, 99.36\\], n = 10,000 (broken)" in text
    assert render_markdown(typed(report)) == text


def test_every_table_row_has_the_cells_of_its_head(report: dict[str, Any]) -> None:
    report["findings"][0]["message"] = "a | b \\| c"
    for text in (render_markdown(typed(report)), render_threat_model(typed(report))):
        cells = 0
        for line in text.splitlines():
            if not line.startswith("|"):
                cells = 0
                continue
            count = line.replace("\\\\", "").replace("\\|", "").count("|")
            cells = cells or count
            assert count == cells, line


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("<script>x</script>", "&#60;script&#62;x&#60;/script&#62;"),
        ("[x](javascript:y)", "\\[x\\](javascript:y)"),
        ("![i](u)", "!\\[i\\](u)"),
        ("@team", "&#64;team"),
        ("https://evil.example", "https&#58;//evil.example"),
        ("a|b\nc", "a\\|b\\nc".replace("\\n", "\\\\n")),
        ("`c` *d* _e_", "\\`c\\` \\*d\\* \\_e\\_"),
        ("plain 98.55 % (n = 10)", "plain 98.55 % (n = 10)"),
    ],
)
def test_escape(hostile: str, shown: str) -> None:
    assert escape(hostile) == shown


def test_threat_model_lists_every_row_with_claim_and_status(report: dict[str, Any]) -> None:
    text = render_threat_model(typed(report))
    for row in REGISTER:
        assert escape(row.mitigation) in text
    assert "| implemented | 0 | 0 | 6 | 0 | 11 |" in text
    assert "| proposed | 0 | 0 | 0 | 0 | 24 |" in text
    assert f"## E: {STRIDE['E']}" in text
    assert "MITRE ATLAS 5.6.1" in text
    assert "report-1/defended-p/transferred: 99.20 % \\[99.01, 99.36\\], n = 10,000 (broken)" in text


def test_the_threat_model_follows_the_measurements(sample: ModuleType, report: dict[str, Any]) -> None:
    better = report
    for name in ("transferred", "fgsm", "pgd"):
        better = sample.with_measurement(better, f"report-1/defended-l/{name}", rate(9300, 10000))
    value = typed(better)
    followed = replace(value, threats=threat_rows(REGISTER, value.measurements, ()))
    assert "| implemented | 1 | 0 | 5 | 0 | 11 |" in render_threat_model(followed)
