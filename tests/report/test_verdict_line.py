"""The verdict never says more than the measurements allow."""

from __future__ import annotations

import json
import re
from types import ModuleType
from typing import Any

import pytest

from secure_ai.core.findings import FailOn
from secure_ai.core.results import BORROWED
from secure_ai.core.trust import check, judge, sample_size_check
from secure_ai.report.model import Report, parse_report
from secure_ai.report.render.verdict import exit_reason, gate_report, verdict, verdict_line, why_exit


def typed(content: dict[str, Any]) -> Report:
    return parse_report(json.dumps(content).encode(), "report.json")


def test_contradicted_headlines_lead(report: dict[str, Any]) -> None:
    found = verdict(typed(report))
    assert (found.word, found.tone) == ("DOES NOT HOLD", "bad")
    assert found.sentence.startswith("4 of 8 ")
    claim = next(r["published"]["text"] for r in report["reproduction"] if r["headline"] and r["holds"] == "no")
    assert re.search(rf"“{re.escape(claim)}” is 0\.00 %", found.sentence)
    assert found.sentence.endswith(" high.")
    assert "4 findings" in found.sentence
    assert "\n" not in verdict_line(typed(report))


def test_a_doubtful_number_in_the_verdict_has_its_word(report: dict[str, Any]) -> None:
    row = next(row for row in report["reproduction"] if row["figure"] == "table-6/defended-fgsm-accuracy")
    row["correct"] |= {"value_text": "5.90 %", "word": "doubtful"}
    assert re.search(r"5\.90 % [^;“]*\(doubtful\);", verdict_line(typed(report)))


def test_holding_headlines_are_said_to_hold(report: dict[str, Any]) -> None:
    rows = [row | {"holds": "yes"} if row["headline"] else row for row in report["reproduction"]]
    found = verdict(typed({**report, "reproduction": rows}))
    assert (found.word, found.tone) == ("HEADLINES HOLD", "unclear")
    everything = [row | {"holds": "yes"} for row in report["reproduction"]]
    assert verdict(typed({**report, "reproduction": everything})).tone == "good"


def test_what_no_run_measured_is_no_headline_and_counted_apart(report: dict[str, Any]) -> None:
    rows = report["reproduction"]
    wrong = next(row for row in rows if row["headline"] and row["holds"] == "no")

    def counts(basis: str) -> tuple[int, ...]:
        changed = [row | {"basis": basis} if row is wrong else row | {"basis": "measured"} for row in rows]
        line = verdict_line(typed({**report, "reproduction": changed}))
        found = re.search(
            r"(\d+) of (\d+) main.* all (\d+) published.* (\d+) do not(?:; of (\d+) more.* (\d+))?\.", line
        )
        assert found is not None
        return tuple(int(number) for number in found.groups(default="0"))

    of_all = sum(row["holds"] in ("yes", "no") for row in rows)
    wrong_of_all = sum(row["holds"] == "no" for row in rows)
    assert counts("measured") == (4, 8, of_all, wrong_of_all, 0, 0)
    assert counts("read") == (3, 7, of_all - 1, wrong_of_all - 1, 1, 1)


@pytest.mark.parametrize(
    ("share", "word", "tone"),
    [(0.11, "NOT ROBUST", "bad"), (0.80, "UNDECIDED", "unclear"), (0.91, "ROBUST AT THIS BUDGET", "good")],
)
def test_a_subject_against_the_bar(sample: ModuleType, share: float, word: str, tone: str) -> None:
    found = verdict(typed(sample.subject_report(share)))
    assert (found.word, found.tone) == (word, tone)
    assert "linf 8/255" in found.sentence


@pytest.mark.parametrize("verdict_word", ["doubtful", "broken"])
def test_an_untrusted_number_is_never_good_news(sample: ModuleType, verdict_word: str) -> None:
    breaking = frozenset({"x"}) if verdict_word == "broken" else frozenset()
    trust = judge([check("x", False, "not believed")], breaking=breaking)
    found = verdict(typed(sample.subject_report(0.97, trust=trust)))
    assert (found.word, found.tone) == ("NOT SHOWN", "unclear")
    assert f"({verdict_word})" in found.sentence


def test_too_few_samples_are_never_good_news(sample: ModuleType) -> None:
    found = verdict(typed(sample.subject_report(0.97, n=500)))
    assert found.word == "NOT SHOWN"
    assert "(indicative)" in found.sentence


def test_an_incomplete_run_says_so_first(report: dict[str, Any], sample: ModuleType) -> None:
    whole = verdict(typed(report)).word
    report["run"]["complete"] = False
    found = verdict(typed(report))
    assert found.word == "INCOMPLETE RUN"
    assert found.sentence.startswith(f"so far {whole.lower()}: ")
    good = sample.subject_report(0.97)
    assert "No findings" in verdict(typed(good)).sentence
    good["run"]["complete"] = False
    assert verdict(typed(good)).tone == "unclear"
    assert "No findings" not in verdict(typed(good)).sentence  # nobody knows yet


def test_without_subject_and_comparison_it_only_reports(report: dict[str, Any]) -> None:
    report |= {"reproduction": []}
    report["run"]["deviates"] = "fewer epochs"
    found = verdict(typed(report))
    assert (found.word, found.tone) == ("MEASURED", "unclear")
    assert "fewer epochs" in found.sentence


def test_planted_findings_do_not_count(report: dict[str, Any]) -> None:
    planted = [finding | {"planted": True} for finding in report["findings"]]
    holding = [row | {"holds": "yes"} for row in report["reproduction"]]
    line = verdict_line(typed({**report, "findings": planted, "reproduction": holding}))
    assert line.endswith("No findings.")


@pytest.mark.parametrize("share", [0.11, 0.97])
def test_no_findings_is_never_said_beside_a_bad_verdict(sample: ModuleType, share: float) -> None:
    line = verdict_line(typed({**sample.subject_report(share), "findings": []}))
    assert ("No findings" in line) is (share > 0.5)


def test_a_model_that_is_fed_wrongly_owns_the_first_line_and_the_exit_code(sample: ModuleType) -> None:
    report = sample.subject_report(0.11)
    assert gate_report(typed(report), "never") == 0
    failed = {"id": "input-range", "outcome": "fail", "evidence": "77 % as given, 99 % with --mean 0.5"}
    follows = {"id": "clean-accuracy", "outcome": "fail", "evidence": "chance"}
    report["models"][0] |= {"preflight": [failed, follows], "title": "mine.pt"}
    found = verdict(typed(report))
    assert (found.word, found.tone) == ("CHECK THE INPUT", "unclear")
    assert found.sentence.startswith("mine.pt: 77 % as given, 99 % with --mean 0.5. ")  # the cause, not what follows
    assert gate_report(typed(report), "never") == 3
    why = why_exit(typed(report), "never", 3)
    assert ("exit 3:" in why, " fed " in why) == (True, True)
    report["run"]["complete"] = False
    assert verdict(typed(report)).word == "CHECK THE INPUT"


def test_a_network_at_chance_has_no_other_cause_to_name(sample: ModuleType) -> None:
    report = sample.subject_report(0.11)
    report["models"][0]["preflight"] = [{"id": "clean-accuracy", "outcome": "fail", "evidence": "11 % clean"}]
    assert "11 % clean" in verdict(typed(report)).sentence


def test_examples_made_for_another_network_do_not_call_it_weak(sample: ModuleType) -> None:
    """The headline, as the finding, judges what was made for the model itself."""
    borrowed = judge([check(BORROWED, False, "of another")], breaking=frozenset({BORROWED}))
    assert verdict(typed(sample.subject_report(0.11, trust=borrowed))).word == "NOT SHOWN"
    own = judge([check(BORROWED, True, "its own")], breaking=frozenset({BORROWED}))
    assert verdict(typed(sample.subject_report(0.11, trust=own))).word == "NOT ROBUST"


def test_the_bar_is_stated_and_what_keeps_a_number_from_being_a_claim(sample: ModuleType) -> None:
    doubtful = judge([check(name, False, "") for name in "abcde"], breaking=frozenset())
    assert "80 %" in verdict(typed(sample.subject_report(0.11))).sentence
    assert "a, b, c and 2 more" in verdict(typed(sample.subject_report(0.97, trust=doubtful))).sentence


@pytest.mark.parametrize(
    ("code", "fail_on", "misfed", "complete", "told"),
    [
        (0, "never", False, True, "exit 0"),
        (0, "high", False, True, "no finding is high"),
        (1, "high", False, True, "--fail-on high"),
        (3, "never", True, False, "fed otherwise"),
        (3, "never", False, False, "not everything"),
        (3, "high", False, True, "takes only"),
    ],
)
def test_every_exit_code_has_its_reason(code: int, fail_on: FailOn, misfed: bool, complete: bool, told: str) -> None:
    reason = exit_reason(code, fail_on, misfed=misfed, complete=complete)
    assert reason.startswith(f"exit {code}: ")
    assert told in reason
    assert len(reason) <= 80


def test_a_run_that_measured_nothing_says_so(report: dict[str, Any]) -> None:
    report |= {"reproduction": [], "measurements": [], "findings": [], "models": []}
    assert verdict(typed(report)).word == "NOT TESTED"
    assert "No findings" not in verdict_line(typed(report))


def test_hostile_text_stays_on_one_line(report: dict[str, Any]) -> None:
    for row in report["reproduction"]:
        row["published"]["text"] = "a\x1b[31m\r\nb"
    assert "\x1b" not in verdict_line(typed(report))
    assert "\n" not in verdict_line(typed(report))


def test_a_curve_beyond_the_budget_asked_for_does_not_decide(sample: ModuleType) -> None:
    report = sample.subject_report(0.97)
    (asked,) = report["measurements"]
    beyond = {**asked, "id": "subject/curve/0.5", "value": sample.subject_report(0.1)["measurements"][0]["value"]}
    report["measurements"] = [asked, beyond | {"stage": "assess/curve"}]
    assert verdict(typed(report)).word == verdict(typed(sample.subject_report(0.97))).word
    assert gate_report(typed(report), "low") == 0
    report["measurements"] = [asked, beyond]
    assert verdict(typed(report)).word == "NOT ROBUST"


def test_a_gate_reads_the_trust_of_the_subject_and_not_of_built_in_networks(sample: ModuleType) -> None:
    doubtful = judge([sample_size_check(10)], breaking=frozenset())
    assert gate_report(typed(sample.subject_report(0.97, trust=doubtful)), "low") == 3
    report = sample.subject_report(0.97, trust=doubtful)
    report["models"][0]["role"] = "baseline"
    assert gate_report(typed(report), "low") == 0


def test_a_run_that_was_not_completed_passes_no_gate(sample: ModuleType) -> None:
    report = sample.subject_report(0.97)
    assert gate_report(typed(report), "low") == 0
    report["run"]["complete"] = False
    assert gate_report(typed(report), "low") == 3
    assert gate_report(typed(report), "never") == 0
    report["measurements"] = []
    assert gate_report(typed(report), "low") == 3
