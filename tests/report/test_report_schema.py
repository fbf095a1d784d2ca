"""report.json's schema: what a run builds is valid, what breaks the contract is not, and more keys are welcome."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import FormatError
from secure_ai.core.result import Result
from secure_ai.report.schema import check_report, load_schema
from secure_ai.runs.adapters import figures_json, json_of
from secure_ai.runs.cases.published import FIGURES, THREATS
from secure_ai.runs.reproduction.reproduction import compare
from secure_ai.runs.reproduction.values import measured_in
from secure_ai.runs.verbs.report import read_report
from secure_ai.threats.register import threat_rows

VALIDATOR = jsonschema.Draft202012Validator(load_schema())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema())


def test_reports_are_valid(report: dict[str, Any], sample: ModuleType) -> None:
    VALIDATOR.validate(report)
    VALIDATOR.validate(sample.subject_report(0.5))
    VALIDATOR.validate(
        {
            **report,
            "reproduction": figures_json(compare(measured_in(Result()), FIGURES)),
            "threats": json_of(threat_rows(THREATS, (), ())),
        }
    )


def test_more_keys_are_allowed(report: dict[str, Any]) -> None:
    wider = copy.deepcopy(report) | {"new": 1}
    wider["run"]["new"] = wider["measurements"][0]["new"] = wider["findings"][0]["new"] = [1]
    VALIDATOR.validate(wider)


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        place: Any = report
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


BREAKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "no measurements": lambda report: report.pop("measurements") and None,
    "no replay": lambda report: report["measurements"][0].pop("replay") and None,
    "version 2": _set("schema_version", value=2),
    "rate above 1": _set("measurements", 0, "value", "value", value=1.2),
    "value without n": _set("measurements", 0, "value", "n", value=0),
    "null without reason": _set("measurements", 0, "value", "value", value=None),
    "upper-case verdict": _set("measurements", 0, "trust", "verdict", value="RELIABLE"),
    "unknown severity": _set("findings", 0, "severity", value="severe"),
    "unknown holds": _set("reproduction", 0, "holds", value="maybe"),
    "unknown threat status": _set("threats", 0, "status", value="fine"),
    "short digest": _set("models", 0, "digest", value="abc"),
    "empty data": _set("data", 0, "n", value=0),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_the_contract_is_refused(name: str, report: dict[str, Any]) -> None:
    BREAKS[name](report)
    assert not VALIDATOR.is_valid(report)
    with pytest.raises(FormatError) as caught:
        check_report(report, where="report.json")
    assert caught.value.where.startswith("report.json: ")
    assert caught.value.expected


def test_the_error_names_the_place(report: dict[str, Any]) -> None:
    report["measurements"][3]["value"]["ci_low"] = "low"
    with pytest.raises(FormatError) as caught:
        check_report(report, where="report.json")
    assert caught.value.where == "report.json: measurements[3].value.ci_low"
    assert (caught.value.expected, caught.value.got) == ("number or null", "str")


def test_a_matrix_must_be_square(report: dict[str, Any]) -> None:
    assert check_report(report, where="x") is report
    report["confusions"][0]["counts"][4].append(1)
    with pytest.raises(FormatError, match="not a report"):
        check_report(report, where="x")


@pytest.mark.parametrize("content", [None, [], "text", 1, {}])
def test_what_is_no_report_at_all_is_refused(content: Any) -> None:
    with pytest.raises(FormatError):
        check_report(content, where="x")


REPLACEMENTS = st.sampled_from([None, True, 0, -1, 3, 0.5, 1.5, "", "text", "a" * 64, [], [1], {}, {"text": "x"}])


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value[:2]))
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_our_check_agrees_with_jsonschema(sample: ModuleType, data: st.DataObject) -> None:
    report: Any = {**sample.build(), "confusions": []}
    path = data.draw(st.sampled_from([place for place in _places(report) if place]))
    _set(*path, value=data.draw(REPLACEMENTS))(report)
    try:
        check_report(report, where="x")
        ours = True
    except FormatError:
        ours = False
    assert ours == VALIDATOR.is_valid(report)


def reliable_with(outcome: str) -> Callable[[dict[str, Any]], object]:
    trust = {"verdict": "reliable", "checks": [{"id": "access", "outcome": outcome, "evidence": "made up"}]}
    return lambda report: report["measurements"][0].update(trust=trust)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda report: None, ""),
        (reliable_with("pass"), ""),
        (reliable_with("fail"), "a verdict that its checks do not give.*failed: access"),
        (reliable_with("not_run"), "a verdict that its checks do not give.*no check ran"),
        (lambda report: report["measurements"][0]["value"].update(value=0.5), "a rate that its counts do not give"),
    ],
)
def test_a_report_that_contradicts_itself_is_not_shown(
    report: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(report)
    (tmp_path / "report.json").write_text(json.dumps(report))
    if not message:
        assert read_report(tmp_path) == report
        return
    with pytest.raises(FormatError) as caught:
        read_report(tmp_path)
    assert re.search(message, str(caught.value))
