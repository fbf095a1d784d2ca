"""The tables of a report: complete, rectangular, and every format draws all of them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from secure_ai.cli.render import print_sections
from secure_ai.core.results import Choice, MeasuredChoice, MeasuredQuantity, Quantity, Rate, rate
from secure_ai.core.sections import MAX_ROWS, Cell, Column, Ref, Section
from secure_ai.core.trust import Trust, Verdict, check, judge
from secure_ai.report.model import Figure, PublishedValue, Report, parse_report
from secure_ai.report.render.html import render_html
from secure_ai.report.render.markdown import escape, render_markdown
from secure_ai.report.render.png import transfer_png
from secure_ai.report.render.text import TRUST_BADGES, text_rows, trust_words
from secure_ai.report.sections import (
    distance_section,
    finding_section,
    folded_sections,
    holds,
    main_sections,
    measurement_section,
    not_tested_section,
    own_measurements,
    stage_section,
    threat_section,
    transfer_sections,
)

DOUBTFUL = judge([check("x", False, "not believed")], breaking=frozenset())


def typed(content: dict[str, Any]) -> Report:
    return parse_report(json.dumps(content).encode(), "report.json")


def section(*cells: Cell) -> Section:
    columns = tuple(Column(f"c{number}", f"column {number}") for number in range(len(cells)))
    return Section("subject/own", "Of a measure", "How to read it.", columns, (cells,), "How it was drawn.")


def with_more(report: dict[str, Any]) -> dict[str, Any]:
    """The sample report with a matrix of two networks, one measurement of it, and a distance."""
    wider = copy.deepcopy(report)
    rates = [[rate(0, 50).as_json(), rate(45, 50).as_json()], [rate(30, 50).as_json(), rate(5, 50).as_json()]]
    wider["transfers"] = [
        {
            "id": "x/matrix",
            "networks": ["a<b>", "b"],
            "budget": {"norm": "linf", "eps": 0.1, "eps_text": "0.1"},
            "attack": "PGD-4 with momentum 1",
            "n": 50,
            "rates": rates,
        }
    ]
    moved = {"id": "b/from/a", "metric": "transfer_accuracy", "value": rates[0][1]}
    wider["measurements"].append(wider["measurements"][0] | moved)
    wider["distances"] = [
        {
            "id": "subject/median-distance",
            "model": "subject",
            "metric": "median_min_distance",
            "norm": "linf",
            "attack": "fmn:steps=100",
            "n": 200,
            "median": 0.0312,
            "ci_low": 0.029,
            "ci_high": None,
            "found": rate(110, 200).as_json(),
        }
    ]
    return wider


@pytest.fixture
def full(report: dict[str, Any]) -> Report:
    """Something in every list; the quantity and the choice are doubtful."""
    own = section("text", Ref("measurement", "q"), Quantity(7.25, "nats", 7, 8, 2000), Choice("found", ("found", "no")))
    return replace(
        typed(with_more(report)),
        quantities=(MeasuredQuantity(id="q", model="m", metric="loss", value=0.125, unit="nats", n=2000, stage="s",
                                     trust=DOUBTFUL),),
        choices=(MeasuredChoice(id="c", model="m", metric="scan", value="backdoored", allowed=("backdoored", "not"),
                                stage="s", trust=DOUBTFUL),),
        sections=(own,),
    )  # fmt: skip


def test_every_list_of_the_report_has_its_section(full: Report) -> None:
    assert [part.id for part in main_sections(full)] == [
        "report/figures", "report/measurements", "report/quantities", "report/choices", "report/distances",
        "report/transfers/0", "report/findings", "report/threats", "subject/own", "report/not-tested",
    ]  # fmt: skip
    assert [part.id for part in folded_sections(full)] == [
        "report/all-figures", "report/checks", "report/classes/0", "report/threats-not-tested", "report/stages",
        "report/models", "report/data",
    ]  # fmt: skip


def test_a_report_without_anything_has_no_section(report: dict[str, Any]) -> None:
    empty = typed({key: [] if isinstance(value, list) else value for key, value in report.items()})
    assert main_sections(empty) == ()
    assert [part.id for part in folded_sections(empty)] == ["report/stages"]


def test_rows_are_printable_lines(report: dict[str, Any]) -> None:
    report["findings"][0]["message"] = "move\x1b[2Jcursor\nline"
    value = typed(report)
    for part in (*main_sections(value), *folded_sections(value)):
        for row in text_rows(part, {}):
            assert len(row) == len(part.columns)
            assert all(text.isprintable() for text in row)


def test_more_rows_than_a_section_holds_are_counted(report: dict[str, Any]) -> None:
    value = typed(report)
    many = tuple(replace(value.measurements[0], id=f"m{number}") for number in range(MAX_ROWS + 1))
    shown = measurement_section(replace(value, measurements=many))
    assert len(shown.rows) == MAX_ROWS
    assert f"{MAX_ROWS + 1:,}" in shown.note


@pytest.mark.parametrize("format", ["html", "markdown", "terminal"])
def test_every_format_draws_a_section_of_a_measure(
    format: str, full: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = drawn(format, full, capsys, monkeypatch)
    for part in ("Of a measure", "How to read it.", "How it was drawn.", "column 3", "7.25 nats", "found"):
        assert part in text


@pytest.mark.parametrize("format", ["html", "markdown", "terminal"])
@pytest.mark.parametrize(("verdict", "word"), [(None, ""), (Verdict.RELIABLE, ""), (Verdict.DOUBTFUL, "doubtful"),
                                               (Verdict.BROKEN, "broken")])  # fmt: skip
def test_a_number_stands_with_the_word_of_its_verdict(
    format: str, verdict: Verdict | None, word: str, full: Report, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    trust = Trust(verdict, (check("x", verdict is Verdict.RELIABLE, "made up"),)) if verdict else None
    measured = replace(full.measurements[0], id="m", trust=trust, value=rate(4321, 10000))
    changed = replace(
        full,
        measurements=(measured,),
        quantities=(replace(full.quantities[0], trust=trust),),
        choices=(replace(full.choices[0], trust=trust),),
        distances=(replace(full.distances[0], trust=trust, n=2000, found=rate(2, 2000), median=0.0987),),
        sections=(section(Ref("measurement", "m"), rate(1234, 9999), Choice("seen", ("seen", "not"))),),
        transfers=(), threats=(), findings=(), reproduction=(),
    )  # fmt: skip
    text = drawn(format, changed, capsys, monkeypatch)
    numbers = ("43.21 %", "0.125 nats", "backdoored", "0.0987", "12.34 %", "seen")
    for number in numbers:
        lines = [line for line in text.splitlines() if number in line]
        assert lines
        for line in lines:
            after = line[line.index(number) + len(number) :]
            assert after.split("(")[1].startswith(f"{word})") if word else not any(w in after for w in WRITTEN_WORDS)


WRITTEN_WORDS = ("(doubtful)", "(broken)", "(indicative)")


def drawn(
    format: str, report: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:  # fmt: skip
    """The report as text, a table row a line at least."""
    if format == "html":
        return render_html(report, {}).replace("\N{NO-BREAK SPACE}", " ")
    if format == "markdown":
        return render_markdown(report).replace("\\", "")
    monkeypatch.setenv("COLUMNS", "400")
    print_sections(report)
    return capsys.readouterr().out


def test_the_word_of_a_row_is_the_worst_of_what_it_refers_to(full: Report) -> None:
    words = {("measurement", "a"): "doubtful", ("measurement", "b"): "broken", ("model", "c"): "indicative"}
    number = Quantity(1.5, "points", n=5000)
    row = section(Ref("measurement", "a"), Ref("measurement", "b"), number)
    assert text_rows(row, words)[0][2] == "1.5 points n = 5,000 (broken)"
    assert text_rows(section(Ref("measurement", "c"), number), words)[0][1] == "1.5 points n = 5,000"
    assert text_rows(section(rate(999, 999)), words)[0][0].endswith("(indicative)")
    assert trust_words(full)["measurement", "c"] == "doubtful"


def test_cells_in_words() -> None:
    cells = (
        None,
        "text",
        Quantity(None, "nats", None, None, 0, "infinite"),
        Quantity(0.0312, "", 0.029, None, 2000),
        Rate(None, None, None, 0, 0, "no image was right before"),
        Choice("not_tested", ("not_tested",)),
        Choice("doubtful", TRUST_BADGES),
        Ref("model", "m"),
    )
    assert text_rows(section(*cells), {("model", "m"): "doubtful"})[0] == [
        "-",
        "text",
        "none (infinite) (doubtful)",
        "0.0312 [0.029, infinite], n = 2,000 (doubtful)",
        "none (no image was right before) (doubtful)",
        "not tested (doubtful)",
        "doubtful",
        "m",
    ]


def test_planted_findings_come_last_and_the_worst_first(report: dict[str, Any]) -> None:
    rows = text_rows(finding_section(typed(report)), {})
    assert [(row[0], row[-1]) for row in rows] == [
        ("high", "-"), ("medium", "-"), ("medium", "-"), ("low", "-"), ("critical", "by the tool"),
    ]  # fmt: skip


def test_headlines_only(report: dict[str, Any]) -> None:
    value = typed(report)
    assert len(main_sections(value)[0].rows) == 8
    assert len(folded_sections(value)[0].rows) == len(report["reproduction"])


def test_untested_mitigations_are_counted(report: dict[str, Any]) -> None:
    value = typed(report)
    assert not_tested_section(value).rows[-1] == ("35 of 41 STRIDE mitigations of the reports",)
    assert len(threat_section(value).rows) == 6


@pytest.mark.parametrize(
    ("judged", "status", "text"),
    [
        ("yes", "supported", "yes"),
        ("no", "wrong", "no"),
        ("no", "not_supported", "no support"),
        ("not_measured", "not_measured", "not measured"),
        ("not_comparable", "not_comparable", "not judged"),
    ],
)
def test_holds(judged: Any, status: Any, text: str) -> None:
    published = PublishedValue(text="x", value=None, unit="text")
    row = Figure(report="r", figure="f", published=published, same_protocol=None, correct=None, holds=judged,
                 status=status, reason="why")  # fmt: skip
    assert holds(row).value == text


def test_stages_longest_first(report: dict[str, Any]) -> None:
    rows = stage_section(typed(report)).rows
    assert [row[0] for row in rows] == ["report-1/defended-p", "report-1/baseline", "audit/code"]
    assert [row[2] for row in rows] == [None, "reused", None]


def test_the_matrix_and_the_distance_are_shown(report: dict[str, Any]) -> None:
    wider = typed(with_more(report))
    (table,) = transfer_sections(wider)
    assert table.rows[0] == ("a<b>", rate(0, 50), rate(45, 50))
    assert text_rows(table, {})[0][2] == "90.00 % [78.64, 95.65], n = 50 (indicative)"
    shown = text_rows(distance_section(wider), trust_words(wider))[0]
    assert shown[2] == "0.0312 [0.029, infinite], n = 200 (indicative)"
    page = render_html(wider, {})
    assert "a<b>" not in page
    assert "a&lt;b&gt;" in page
    assert escape("[78.64, 95.65]") in render_markdown(wider)


def test_a_rate_of_the_matrix_stands_once(report: dict[str, Any]) -> None:
    wider = typed(with_more(report))
    assert [m.id for m in own_measurements(wider)] == [m["id"] for m in report["measurements"]]
    alone = replace(wider, transfers=())  # then nothing else would show it
    assert "b/from/a" in {m.id for m in own_measurements(alone)}


def test_the_picture_takes_what_was_not_measured_and_is_the_same_again() -> None:
    rates = [[rate(1, 2), Rate(None, None, None, 0, 0, "none")], [rate(2, 2), rate(0, 2)]]
    first = transfer_png(rates, ["a$b/c", "d"], "Title", "note")
    assert first.startswith(b"\x89PNG")
    assert first == transfer_png(rates, ["a$b/c", "d"], "Title", "note")
    assert first != transfer_png(list(reversed(rates)), ["a$b/c", "d"], "Title", "note")
