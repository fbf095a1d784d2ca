"""What a run says while it goes on: one line a stage with what it found, and where the report so far is."""

from __future__ import annotations

import pytest

from secure_ai.cli.progress import watch_run
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.result import Result
from secure_ai.core.results import rate
from secure_ai.core.trust import judge as judge_checks
from secure_ai.core.trust import sample_size_check
from secure_ai.runs.engine.stage import Notice
from secure_ai.runs.stages.entries import rate_entry


def found(metric: str, condition: str, successes: int) -> Result:
    entry = rate_entry("one", condition, metric, rate(successes, 200), "a protocol",
                       budget=PerturbationBudget("linf", 0.1) if metric == "robust_accuracy" else None,
                       trust=judge_checks([sample_size_check(200)], breaking=frozenset()))  # fmt: skip
    return Result(measurements=(entry,))


def test_a_line_a_stage_and_once_where_the_report_is(capsys: pytest.CaptureFixture[str]) -> None:
    with watch_run(quiet=False) as watch:
        watch(Notice("plan", "", done=2, total=20, titles={"one": "Undefended"}))
        watch(Notice("start", "one/clean", total=10))
        watch(Notice("end", "one/clean", done=9, total=10, result=found("clean_accuracy", "clean", 198)))
        watch(Notice("page", "", text="out/report.html"))
        watch(Notice("end", "one/fgsm", done=9, total=10, result=found("robust_accuracy", "fgsm", 32)))
        watch(Notice("page", "", text="out/report.html"))
    said = capsys.readouterr().err
    assert said.count("out/report.html") == 1
    lines = [line.strip() for line in said.splitlines() if line.strip().startswith("Undefended:")]
    assert ["99 %" in line for line in lines] == [True, False]
    assert ["16 %" in line and "FGSM" in line for line in lines] == [False, True]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watch_run(quiet=True) as watch:
        watch(Notice("plan", "", done=1, total=1))
        watch(Notice("page", "", text="out/report.html"))
    assert capsys.readouterr().err == ""
