"""A finished run's folder as `report` reads it: whether it is verified is said, and pictures are pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from secure_ai.cli.main import run_command
from secure_ai.files.write import write_json
from secure_ai.report.model import parse_report
from secure_ai.report.render.sarif import render_sarif
from secure_ai.runs.verbs.report import is_verified


def put(folder: Path, report: dict[str, Any], *, named: bool) -> None:
    write_json(folder / "report.json", report)
    if named:
        digest = hashlib.sha256((folder / "report.json").read_bytes()).hexdigest()
        write_json(folder / "run.json", {"files": {"report.json": digest}})


@pytest.mark.parametrize("named", [True, False])
def test_a_report_without_its_run_json_is_said_to_be_unverified(
    report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    put(tmp_path, report, named=named)
    assert run_command(["report", str(tmp_path), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert parse_report(out.encode(), "out") == parse_report(json.dumps(report).encode(), "report.json")
    assert ("not verified" in err) is not named
    assert is_verified(tmp_path) is named


def test_a_picture_that_is_none_is_refused(
    report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, report, named=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("<script>")
    assert run_command(["report", str(tmp_path), "--format", "html", "--json"]) == 0, "json shows no pictures"
    capsys.readouterr()
    assert run_command(["report", str(tmp_path), "--format", "html"]) == 2
    assert "E_FORMAT" in capsys.readouterr().err


def test_sarif_shows_the_version_escaped(report: dict[str, Any]) -> None:
    report["tool"]["version"] = "1\u202e0"
    assert "\u202e" not in json.dumps(
        render_sarif(parse_report(json.dumps(report).encode(), "report.json")), ensure_ascii=False
    )
