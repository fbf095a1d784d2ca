"""Transfer matrices and distances in the report: shown with n and interval, refused where they are out of form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from secure_ai.core.errors import FormatError
from secure_ai.core.results import rate
from secure_ai.report.render.html import render_html
from secure_ai.report.render.markdown import render_markdown
from secure_ai.report.render.png import transfer_png
from secure_ai.report.render.terminal import distance_table, measurement_table, own_measurements, transfer_tables
from secure_ai.report.schema import check_report


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
    wider["measurements"].append(
        wider["measurements"][0] | {"id": "b/from/a", "metric": "transfer_accuracy", "value": rates[0][1]}
    )
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


def test_the_matrix_and_the_distance_are_shown(report: dict[str, Any]) -> None:
    wider = check_report(with_more(report), where="test")
    (table,) = transfer_tables(wider)
    assert table.rows[0] == ("a<b>", "0.00 % [0.00, 7.13], n = 50", "90.00 % [78.64, 95.65], n = 50")
    assert "no robust accuracy" in table.title
    assert distance_table(wider).rows[0][2] == "0.0312 [0.029, infinite], n = 200 (indicative)"
    page = render_html(wider, {})
    assert "90.00" in page
    assert "a<b>" not in page
    assert "a&lt;b&gt;" in page
    assert "Transfer and distance" in page
    assert "78.64" in render_markdown(wider)


def test_a_rate_of_the_matrix_stands_once(report: dict[str, Any]) -> None:
    wider = with_more(report)
    assert [m["id"] for m in own_measurements(wider)] == [m["id"] for m in report["measurements"]]
    assert "b/from/a" not in {row[0] for row in measurement_table(wider).rows}
    del wider["transfers"]  # then nothing else would show it
    assert "b/from/a" in {row[0] for row in measurement_table(wider).rows}


def test_a_report_without_them_shows_no_such_section(report: dict[str, Any]) -> None:
    assert transfer_tables(report) == []
    assert distance_table(report).rows == ()
    assert "Transfer and distance" not in render_html(report, {})


BREAKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a row too few": lambda report: report["transfers"][0]["rates"].pop() and None,
    "a ragged row": lambda report: report["transfers"][0]["rates"][1].pop() and None,
    "a network too many": lambda report: report["transfers"][0]["networks"].append("c"),
    "a rate above 1": lambda report: report["transfers"][0]["rates"][0][0].update(value=2.0),
    "a negative distance": lambda report: report["distances"][0].update(median=-1.0),
    "a distance in words": lambda report: report["distances"][0].update(median="infinite"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_out_of_form_is_refused(report: dict[str, Any], name: str) -> None:
    wider = with_more(report)
    BREAKS[name](wider)
    with pytest.raises(FormatError):
        check_report(wider, where="test")


def test_the_picture_takes_what_was_not_measured_and_is_the_same_again() -> None:
    nothing = {"value": None, "ci_low": None, "ci_high": None, "n": 0, "successes": 0, "reason": "none"}
    rates = [[rate(1, 2).as_json(), nothing], [rate(2, 2).as_json(), rate(0, 2).as_json()]]
    first = transfer_png(rates, ["a$b/c", "d"], "Title", "note")
    assert first.startswith(b"\x89PNG")
    assert first == transfer_png(rates, ["a$b/c", "d"], "Title", "note")
    assert first != transfer_png(list(reversed(rates)), ["a$b/c", "d"], "Title", "note")
