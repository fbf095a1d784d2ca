"""`parse_report` and `report_bytes`: what they take, what they refuse and where."""

from __future__ import annotations

import copy
import importlib.resources
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import FormatError, JsonError
from secure_ai.core.results import Choice, MeasuredChoice, MeasuredQuantity, Quantity, rate
from secure_ai.core.sections import Column, Ref, Section
from secure_ai.core.trust import Verdict
from secure_ai.report.consistency import refuse_inconsistent
from secure_ai.report.model import MAX_ITEMS, Report, parse_report, report_bytes, schema
from secure_ai.report.render.headline import accuracy_groups
from secure_ai.report.render.html import render_html
from secure_ai.report.render.markdown import escape, render_markdown
from secure_ai.threats.model import ThreatStatus

VALIDATOR = jsonschema.Draft202012Validator(schema())


def parsed(content: dict[str, Any]) -> Report:
    return parse_report(json.dumps(content).encode(), "report.json")


def test_types_are_values_of_core(report: dict[str, Any]) -> None:
    value = parsed(report)
    broken = next(m for m in value.measurements if m.id == "report-1/defended-p/transferred")
    assert broken.trust is not None
    assert broken.trust.verdict is Verdict.BROKEN
    assert broken.value == rate(9920, 10000)
    assert str(broken.budget) == "linf 0.25"
    assert {threat.status for threat in value.threats} <= set(ThreatStatus)


def test_bytes_and_value_give_each_other(report: dict[str, Any]) -> None:
    content = report_bytes(parsed(report))
    assert report_bytes(parse_report(content, "again")) == content
    assert parse_report(content, "again") == parsed(report)


def test_every_key_of_an_earlier_report_is_written_again(report: dict[str, Any]) -> None:
    for entry in report["measurements"]:
        del entry["condition"]  # earlier reports name none, and reading adds it
    assert list(missing(report, json.loads(report_bytes(parsed(report))), "")) == []


def missing(old: Any, new: Any, place: str) -> Iterator[str]:
    """Places of `old` that `new` has not, or not with the same value."""
    if isinstance(old, dict):
        for key, value in old.items():
            if key not in new:
                yield f"{place}.{key}"
            else:
                yield from missing(value, new[key], f"{place}.{key}")
    elif isinstance(old, list):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from missing(left, right, f"{place}[{index}]")
    elif old != new:
        yield place


def test_new_lists_come_back(report: dict[str, Any]) -> None:
    cells = ("text", rate(3, 4), Quantity(1.5, "nats", 1.0, 2.0, 9), Choice("a", ("a", "b")), Ref("model", "m"), None)
    columns = tuple(Column(f"c{number}", "title") for number in range(len(cells)))
    value = replace(
        parsed(report),
        quantities=(MeasuredQuantity(id="q", model="m", metric="loss", value=0.1, unit="nats", stage="s"),),
        choices=(MeasuredChoice(id="c", model="m", metric="scan", value="a", allowed=("a", "b"), stage="s"),),
        sections=(Section("s/one", "title", "intro", columns, (cells,)),),
    )
    assert parse_report(report_bytes(value), "again") == value


def test_without_the_lists_added_later(report: dict[str, Any]) -> None:
    later = ("confusions", "comparisons", "transfers", "distances", "quantities", "choices", "sections")
    value = parsed({key: content for key, content in report.items() if key not in later})
    assert all(getattr(value, name) == () for name in later)


def test_unknown_keys_are_ignored(report: dict[str, Any]) -> None:
    added = copy.deepcopy(report)
    added["of_a_later_version"] = 1
    added["measurements"][0]["value"]["of_a_later_version"] = 1
    assert parsed(added) == parsed(report)


def test_the_condition_of_an_earlier_report_is_the_end_of_the_id(report: dict[str, Any]) -> None:
    del report["measurements"][1]["condition"]
    report["measurements"][0]["condition"] = "own word"
    value = parsed(report)
    assert value.measurements[1].condition == "fgsm"
    assert value.measurements[0].condition == "own word"


def test_a_number_that_is_not_finite_is_not_written(report: dict[str, Any]) -> None:
    value = parsed(report)
    with pytest.raises(ValueError, match="JSON"):
        report_bytes(replace(value, run=replace(value.run, seconds=float("inf"))))


REFUSED: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "version": ("schema_version", lambda r: r.update(schema_version=2)),
    "tool": ("tool.name", lambda r: r["tool"].update(name="other")),
    "missing key": ("models[0].digest", lambda r: r["models"][0].pop("digest")),
    "digest": ("models[0].digest", lambda r: r["models"][0].update(digest="A" * 64)),
    "digest and newline": ("models[0].digest", lambda r: r["models"][0].update(digest="a" * 64 + "\n")),
    "empty id": ("measurements[0].id", lambda r: r["measurements"][0].update(id="")),
    "id twice": ("measurements[1].id", lambda r: r["measurements"][1].update(id=r["measurements"][0]["id"])),
    "share": ("measurements[3].value.value", lambda r: r["measurements"][3]["value"].update(value=1.5)),
    "no n": ("measurements[3].value.n", lambda r: r["measurements"][3]["value"].update(n=0)),
    "text for n": ("measurements[3].value.n", lambda r: r["measurements"][3]["value"].update(n="12")),
    "true for n": ("measurements[3].value.n", lambda r: r["measurements"][3]["value"].update(n=True)),
    "no reason": ("measurements[3].value.reason", lambda r: r["measurements"][3]["value"].update(value=None)),
    "no interval": ("measurements[3].value.ci_low", lambda r: r["measurements"][3]["value"].update(ci_low=None)),
    "negative eps": ("eps", lambda r: r["measurements"][1]["budget"].update(eps=-0.1)),
    "verdict": ("measurements[1].trust.verdict", lambda r: r["measurements"][1]["trust"].update(verdict="fine")),
    "seconds": ("run.stage_seconds", lambda r: r["run"]["stage_seconds"].update(x=-1)),
    "not square": ("confusions[0].counts", lambda r: r["confusions"][0]["counts"].pop()),
    "status": ("threats[0].status", lambda r: r["threats"][0].update(status="solved")),
    "empty reason": ("reproduction[0].reason", lambda r: r["reproduction"][0].update(reason="")),
    "empty text": ("not_tested", lambda r: r["not_tested"].append("")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_place(report: dict[str, Any], case: str) -> None:
    place, change = REFUSED[case]
    change(report)
    with pytest.raises(FormatError) as refused:
        parsed(report)
    assert refused.value.where == f"report.json: {place}"
    assert refused.value.expected


def test_limits_before_anything_is_built(report: dict[str, Any]) -> None:
    for broken in (b"[" * 40 + b"]" * 40, b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff"):
        with pytest.raises(JsonError):
            parse_report(broken, "report.json")
    report["not_tested"] = ["x"] * (MAX_ITEMS + 1)
    with pytest.raises(FormatError) as refused:
        parsed(report)
    assert f" {MAX_ITEMS} " in refused.value.expected


@pytest.mark.parametrize("name", ["measurements", "transfers", "sections"])
def test_many_wrong_items_cost_no_more_than_one(report: dict[str, Any], name: str) -> None:
    wrong: list[dict[str, Any]] = [{"rates": [[{}] * 50_000] * 3, "rows": [[{}] * 50_000] * 3}]
    report[name] = [{}] * MAX_ITEMS if name == "measurements" else wrong
    content = json.dumps(report).encode()
    parse_report(report_bytes(parsed(report | {name: []})), "warm")
    began = time.process_time()
    with pytest.raises(FormatError):
        parse_report(content, "report.json")
    assert time.process_time() - began < 5  # without stopping at the first: more than 30 s


@pytest.mark.parametrize("content", [None, [], "text", 1, {}])
def test_what_is_no_report_at_all_is_refused(content: Any) -> None:
    with pytest.raises(FormatError):
        parsed(content)


def test_the_schema_takes_and_refuses_what_the_check_does(report: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(report)
    assert VALIDATOR.is_valid(json.loads(report_bytes(parsed(report))))
    for case in ("version", "missing key", "digest", "empty id", "share", "text for n", "verdict", "seconds", "status"):
        broken = copy.deepcopy(report)
        REFUSED[case][1](broken)
        assert not VALIDATOR.is_valid(broken), case


REPLACEMENTS = st.sampled_from([None, True, 0, -1, 3, 0.5, 1.5, "", "text", "a" * 64, [], [1], {}, {"text": "x"}])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value[:2]))
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_read_is_valid_by_the_schema(sample: ModuleType, data: st.DataObject) -> None:
    report: Any = sample.build()
    *path, last = data.draw(st.sampled_from([place for place in places(report) if place]))
    around = report
    for key in path:
        around = around[key]
    around[last] = data.draw(REPLACEMENTS)
    try:
        parsed(report)
    except FormatError:
        return
    assert VALIDATOR.is_valid(report)


def test_the_schema_of_the_package_is_current() -> None:
    """Else: `json.dumps(schema(), indent=1)` and a line break are what stands in the file."""
    file = importlib.resources.files("secure_ai.report").joinpath("schema.json")
    assert file.read_text(encoding="utf-8") == json.dumps(schema(), indent=1) + "\n"
    jsonschema.Draft202012Validator.check_schema(schema())
    assert set(schema()["properties"]) == {field.name for field in fields(Report)}


def test_a_report_of_an_earlier_version_renders() -> None:
    """A real one, shortened; its measurements name no condition and its models no title."""
    content = Path(__file__).with_name("report_version_1.json").read_bytes()
    value = parse_report(content, "report.json")
    assert list(missing(json.loads(content), json.loads(report_bytes(value)), "")) == []
    assert VALIDATOR.is_valid(json.loads(content))
    refuse_inconsistent(value, "report.json")
    bars = {bar.label for group in accuracy_groups(value) for bar in group.bars}
    assert {"clean images", "FGSM, white-box", "PGD, white-box"} <= bars
    page, text = render_html(value, {}), render_markdown(value)
    for measured in value.measurements:
        assert escape(measured.id) in text
        assert measured.id.rpartition("/")[2] in page
