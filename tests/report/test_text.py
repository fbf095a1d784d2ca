"""The spelling of numbers and trust, and the chart as data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import Measurement, rate, rate_or_reason
from secure_ai.core.trust import Check, Trust, Verdict, check, judge, sample_size_check
from secure_ai.report.model import Report, Run, parse_report
from secure_ai.report.render.headline import accuracy_groups, backdoor_group
from secure_ai.report.render.text import (
    budget_text,
    measurement,
    not_reused,
    plural,
    seconds_text,
    trust_badge,
    work_text,
    written,
)


def typed(content: dict[str, Any]) -> Report:
    return parse_report(json.dumps(content).encode(), "report.json")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30.22e-6, "30.2 µs"), (5.94e-3, "5.94 ms"), (20.08, "20.1 s"), (99.9, "99.9 s"), (775, "12 min 55 s")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_a_rerun_does_not_pass_for_the_work_it_reuses() -> None:
    run = Run(id="x", recipe="r", complete=True, seconds=0.4, seed=0, stage_seconds={"a": 100.0, "b": 20.0})
    assert work_text(run) == "400 ms"
    reused = replace(run, reused=("a", "b"))
    assert work_text(reused).startswith("2 min 00 s")
    assert "2 of 2 stages" in work_text(reused)


def test_what_was_not_believed_of_an_earlier_run_is_said() -> None:
    run = Run(id="x", recipe="r", complete=True, seconds=0.4, seed=0)
    assert not_reused(run) == ""
    assert not_reused(replace(run, foreign=("a", "b"))).startswith("2 records")
    assert not_reused(replace(run, key_note="no key")) == "no key"
    assert not_reused(replace(run, foreign=("a",))) in work_text(replace(run, foreign=("a",)))


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
    trust = Trust(Verdict(verdict), ()) if verdict else None
    entry = Measurement(id="m", model="m", metric="x", value=rate(n // 2, n), stage="s", replay="", trust=trust)
    assert (measurement(entry).word, trust_badge(entry, n).value) == (word, badge)
    assert measurement(entry).short.endswith(f"({word})" if word else "%")


@pytest.mark.parametrize(
    ("others", "badge"),
    [
        ([], "n sufficient"),
        ([check("x", None, "could not run")], "n sufficient"),
        ([check("x", True, "asked")], "reliable"),
        ([check("x", False, "asked")], "doubtful"),
    ],
)
def test_a_rate_of_which_only_the_size_was_checked_is_not_called_reliable(others: list[Check], badge: str) -> None:
    trust = judge([sample_size_check(1000), *others], breaking=frozenset())
    entry = Measurement(id="m", model="m", metric="x", value=rate(1, 1000), stage="s", replay="", trust=trust)
    assert trust_badge(entry, 1000).value == badge
    assert entry.as_json()["trust"]["verdict"] == trust.verdict.value  # JSON keeps the verdict


def test_rates_without_a_value() -> None:
    reason = "no image was right before"
    assert str(written(rate_or_reason(0, 0, reason))) == f"none ({reason})"
    assert budget_text(PerturbationBudget("linf", 8 / 255, "8/255")) == "linf 8/255"
    assert budget_text(None) == ""


def test_plural() -> None:
    assert (plural(1, "finding"), plural(1200, "finding")) == ("1 finding", "1,200 findings")


def test_the_chart_takes_the_widest_clean_accuracy_and_marks_what_was_published(report: dict[str, Any]) -> None:
    value = typed(report)
    groups = {group.model: group for group in accuracy_groups(value)}
    assert len(groups) == 5  # the poisoned networks were not attacked by evasion
    defended = groups["report-1/defended-p"]
    labels = [bar.label for bar in defended.bars]
    assert labels[1].endswith("the baseline")
    assert labels[2:] == ["FGSM, white-box", "PGD, white-box"]
    assert defended.bars[1].published == pytest.approx(98.55)
    assert (defended.bars[1].word, defended.bars[0].word) == ("broken", "")
    assert defended.bars[2].published is None
    backdoors = backdoor_group(value)
    assert backdoors is not None
    assert len(backdoors.bars) == 6
    assert len({bar.label for bar in backdoors.bars}) == 6  # BadNets' trigger on the clean network says whose it is
    assert backdoor_group(replace(value, measurements=())) is None


def test_the_chart_reads_titles_and_origins_from_fields(report: dict[str, Any]) -> None:
    value = typed(report)
    models = tuple(replace(m, title="Own title" if m.id == "report-1/defended-p" else "") for m in value.models)
    rows = tuple(
        replace(m, id=str(number), made_for="report-1/defended-p" if m.condition == "transferred" else "")
        for number, m in enumerate(value.measurements)
    )
    groups = {group.model: group for group in accuracy_groups(replace(value, models=models, measurements=rows))}
    assert groups["report-1/defended-p"].title == "Own title"
    assert groups["report-1/defended-l"].title == "report-1/defended-l"
    assert groups["report-1/defended-p"].bars[1].label.endswith(" Own title")
    assert groups["report-1/defended-p"].bars[2].label == "FGSM, white-box"
