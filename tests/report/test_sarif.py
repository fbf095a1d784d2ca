"""SARIF: the rules of the format that code hosts rely on."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import secure_ai
from secure_ai.report.model import Report, parse_report
from secure_ai.report.render.sarif import TITLES, relative_uri, render_sarif


def typed(content: dict[str, Any]) -> Report:
    return parse_report(json.dumps(content).encode(), "report.json")


@pytest.fixture
def log(report: dict[str, Any]) -> dict[str, Any]:
    return render_sarif(typed(report))


def run_of(log: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = log["runs"][0]
    return found


def test_one_run_and_every_result_has_its_rule(log: dict[str, Any], report: dict[str, Any]) -> None:
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    run = run_of(log)
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert len(run["results"]) == len(report["findings"])
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        assert 0 <= float(result["properties"]["security-severity"]) <= 10
    for rule in rules:
        assert len(rule["properties"]["tags"]) <= 10
        assert rule["shortDescription"]["text"]


def test_what_code_scanning_refuses_is_not_there(log: dict[str, Any]) -> None:
    """A result without a region, a base that nothing defines, a rule whose title changes from run to run."""
    assert "uriBaseId" not in json.dumps(log)
    for result in run_of(log)["results"]:
        assert result["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1
    for rule in run_of(log)["tool"]["driver"]["rules"]:
        assert urlsplit(rule["helpUri"]).scheme == "https"
        assert not re.search(r"\d+\.\d+ %|n = ", rule["shortDescription"]["text"])


def test_every_kind_of_finding_of_ours_has_a_title() -> None:
    source = Path(secure_ai.__file__).parent
    known = {name for file in source.rglob("*.py") for name in re.findall(r'"(SAI-[A-Z]+-\d+)"', file.read_text())}
    assert {"SAI-EV-001", "SAI-CODE-001"} <= known
    assert known == set(TITLES)


def test_severity_is_monotone(log: dict[str, Any]) -> None:
    order = ["info", "low", "medium", "high", "critical"]
    results = sorted(run_of(log)["results"], key=lambda r: order.index(r["properties"]["severity"]))
    scores = [float(result["properties"]["security-severity"]) for result in results]
    assert scores == sorted(scores)
    assert {r["level"] for r in results if r["properties"]["severity"] in ("high", "critical")} == {"error"}


def test_locations_are_relative_files_with_lines(log: dict[str, Any]) -> None:
    places = {r["ruleId"]: r["locations"][0]["physicalLocation"] for r in run_of(log)["results"]}
    assert places["B301"]["artifactLocation"]["uri"] == "demonstrations/cache_demo.py"
    assert places["B301"]["region"] == {"startLine": 14}
    assert places["B101"]["artifactLocation"]["uri"] == "demonstrations/idx%20reader.py"
    assert places["SAI-EV-002"]["artifactLocation"]["uri"] == "report.json"
    logical = next(r for r in run_of(log)["results"] if r["ruleId"] == "SAI-EV-002")["locations"][0]["logicalLocations"]
    assert logical[0]["fullyQualifiedName"] == "report-1/defended-p"


def test_a_users_model_is_named_as_the_user_knows_it(report: dict[str, Any]) -> None:
    finding = next(f for f in report["findings"] if f["id"] == "SAI-EV-002")
    model = next(m for m in report["models"] if m["id"] == finding["location"])
    model["title"] = "mine.pt"
    logical = run_of(render_sarif(typed(report)))["results"][0]["locations"][0]["logicalLocations"]
    assert (logical[0]["name"], logical[0]["fullyQualifiedName"]) == ("mine.pt", finding["location"])


def test_a_model_with_a_file_is_located_there(report: dict[str, Any]) -> None:
    report["models"][1]["file"] = "models/adv trained.keras"
    place = run_of(render_sarif(typed(report)))["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "models/adv%20trained.keras"


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/etc/passwd", "etc/passwd"),
        ("../../secret.py", "secret.py"),
        ("https://evil.example/x.py", "https%3A/evil.example/x.py"),
        ("a\\b.py", "a/b.py"),
        ("a#b?c%.py", "a%23b%3Fc%25.py"),
        ("modèle.pt", "mod%C3%A8le.pt"),
        ("..", "report.json"),
        ("src/ok_file-1.py", "src/ok_file-1.py"),
    ],
)
def test_uris_cannot_leave_the_folder(path: str, uri: str) -> None:
    assert relative_uri(path) == uri
    parts = urlsplit(relative_uri(path))
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")


def test_fingerprints_survive_new_numbers_and_lines_but_tell_findings_apart(report: dict[str, Any]) -> None:
    def prints(content: dict[str, Any]) -> list[str]:
        return [r["partialFingerprints"]["secureAiFinding/v1"] for r in run_of(render_sarif(typed(content)))["results"]]

    first = prints(report)
    assert len(set(first)) == len(first)
    later = copy.deepcopy(report)
    for finding in later["findings"]:
        finding["message"] = "other numbers"
        finding["location"] = re.sub(r":\d+$", ":99", finding["location"])
    assert prints(later) == first
    twice = {**report, "findings": [report["findings"][0], report["findings"][0]]}
    assert len(set(prints(twice))) == 2


def test_planted_findings_are_suppressed_and_others_are_not(log: dict[str, Any]) -> None:
    suppressed = {r["ruleId"]: bool(r.get("suppressions")) for r in run_of(log)["results"]}
    assert suppressed == {
        "SAI-EV-002": False, "SAI-BD-001": True, "SAI-EV-001": False, "B301": False, "B101": False,
    }  # fmt: skip


def test_no_time_no_machine_and_valid_json(log: dict[str, Any], report: dict[str, Any]) -> None:
    text = json.dumps(log, allow_nan=False)
    assert "Utc" not in text
    assert "file://" not in text
    assert render_sarif(typed(report)) == log


def test_no_findings_is_a_valid_log(report: dict[str, Any]) -> None:
    run = run_of(render_sarif(typed({**report, "findings": []})))
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])


def test_an_incomplete_run_is_not_a_successful_invocation(report: dict[str, Any]) -> None:
    report["run"]["complete"] = False
    assert run_of(render_sarif(typed(report)))["invocations"] == [{"executionSuccessful": False}]
