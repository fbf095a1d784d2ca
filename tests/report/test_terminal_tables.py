"""Tables as plain data, and the spelling of numbers."""

from __future__ import annotations

from typing import Any

import pytest

from secure_ai.core.results import rate, rate_or_reason
from secure_ai.report.render import terminal
from secure_ai.report.render.headline import accuracy_groups, backdoor_group
from secure_ai.report.render.text import (
    budget_text,
    plural,
    rate_text,
    seconds_text,
    short_text,
    trust_badge,
    trust_word,
    work_text,
)


def test_tables_are_rectangular_and_printable(report: dict[str, Any]) -> None:
    report["findings"][0]["message"] = "move\x1b[2Jcursor\nline"
    tables = [*terminal.all_tables(report), terminal.stage_table(report), terminal.reproduction_table(report)]
    assert len(tables) == 7
    for table in tables:
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert all(text.isprintable() for text in row)


def test_planted_findings_come_last_and_the_worst_first(report: dict[str, Any]) -> None:
    rows = terminal.finding_table(report).rows
    assert [row[0] for row in rows] == ["high", "medium", "medium", "low", "critical (planted by the tool)"]


def test_headlines_only(report: dict[str, Any]) -> None:
    assert len(terminal.reproduction_table(report, headlines_only=True).rows) == 8
    assert len(terminal.reproduction_table(report).rows) == len(report["reproduction"])


def test_untested_mitigations_are_counted(report: dict[str, Any]) -> None:
    rows = terminal.not_tested_table(report).rows
    assert rows[-1] == ("35 of 41 STRIDE mitigations of the reports",)
    assert len(terminal.threat_table(report).rows) == 6


@pytest.mark.parametrize(
    ("holds", "status", "text"),
    [
        ("yes", "supported", "yes"),
        ("no", "wrong", "no"),
        ("no", "not_supported", "no support"),
        ("not_measured", "not_measured", "not measured"),
        ("not_comparable", "not_comparable", "not judged"),
    ],
)
def test_holds(holds: str, status: str, text: str) -> None:
    assert terminal.holds_text({"holds": holds, "status": status}) == text


def test_stages_longest_first(report: dict[str, Any]) -> None:
    rows = terminal.stage_table(report).rows
    assert [row[0] for row in rows] == ["report-1/defended-p", "report-1/baseline", "audit/code"]
    assert rows[1][2] == "reused"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30.22e-6, "30.2 µs"), (5.94e-3, "5.94 ms"), (20.08, "20.1 s"), (99.9, "99.9 s"), (775, "12 min 55 s")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_a_rerun_does_not_pass_for_the_work_it_reuses() -> None:
    run = {"seconds": 0.4, "stage_seconds": {"a": 100.0, "b": 20.0}, "reused": []}
    assert work_text(run) == "400 ms"
    assert work_text({**run, "reused": ["a", "b"]}) == "2 min 00 s of work, 2 of 2 stages from an earlier run"


def measurement(value: dict[str, Any], verdict: str | None) -> dict[str, Any]:
    return {"value": value, "trust": verdict and {"verdict": verdict, "checks": []}, "budget": None}


@pytest.mark.parametrize(
    ("n", "verdict", "word", "badge"),
    [
        (10000, "reliable", "", "reliable"),
        (10000, None, "", "no checks"),
        (10000, "doubtful", "doubtful", "doubtful"),
        (100, "broken", "broken", "broken"),
        (999, "reliable", "indicative", "indicative"),
        (1000, "reliable", "", "reliable"),
    ],
)
def test_trust_words(n: int, verdict: str | None, word: str, badge: str) -> None:
    entry = measurement(rate(n // 2, n).as_json(), verdict)
    assert (trust_word(entry), trust_badge(entry)) == (word, badge)
    assert short_text(entry).endswith(f"({word})" if word else "%")


def test_rates_without_a_value() -> None:
    empty = rate_or_reason(0, 0, "no image was right before").as_json()
    assert rate_text(empty) == "none (no image was right before)"
    assert short_text(measurement(empty, None)) == "none"
    assert budget_text({"budget": {"norm": "linf", "eps": 8 / 255, "eps_text": "8/255"}}) == "linf 8/255"


def test_plural() -> None:
    assert (plural(1, "finding"), plural(1200, "finding")) == ("1 finding", "1,200 findings")


def test_the_chart_takes_the_widest_clean_accuracy_and_marks_what_was_published(report: dict[str, Any]) -> None:
    groups = {group.title: group for group in accuracy_groups(report)}
    assert len(groups) == 5  # the poisoned networks were not attacked by evasion
    defended = groups["Report 1: defended, as published (examples made once, for the baseline)"]
    assert [bar.label for bar in defended.bars][1:] == [
        "examples made for the baseline", "FGSM on itself", "PGD on itself",
    ]  # fmt: skip
    assert defended.bars[1].published == pytest.approx(98.55)
    assert (defended.bars[1].word, defended.bars[0].word) == ("broken", "")
    assert defended.bars[2].published is None
    backdoors = backdoor_group(report)
    assert backdoors is not None
    assert len(backdoors.bars) == 6
    assert len({bar.label for bar in backdoors.bars}) == 6  # BadNets' trigger on the clean network says whose it is
    assert backdoor_group({**report, "measurements": []}) is None
