"""Progress never claims more than is known: what is done, since when, and how much is left of the whole."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from rich.console import Console
from rich.progress import Progress

from secure_ai.cli import progress as module
from secure_ai.cli.progress import Steps, TimeColumn, found_text, heartbeat, say_plans, watch_run, watch_steps
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.result import Result
from secure_ai.core.results import CURVE, Measurement, rate
from secure_ai.runs.engine.stage import Notice


def test_something_is_printed_while_a_long_step_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    asked = threading.Semaphore(0)

    def now() -> str:
        asked.release()
        return "attacking, 40 %"

    with heartbeat(now, seconds=0.01):
        assert asked.acquire(timeout=60)
        assert asked.acquire(timeout=60)  # the first line is out
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all("attacking, 40 %" in line for line in lines)
    while asked.acquire(blocking=False):
        pass
    assert not asked.acquire(timeout=0.05)  # and nothing after it


@pytest.mark.parametrize("quiet", [True, False])
def test_a_command_beats_where_no_bar_is_drawn_unless_it_is_quiet(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    told: list[Callable[[], str]] = []

    @contextlib.contextmanager
    def kept(now: Callable[[], str]) -> Iterator[None]:
        told.append(now)
        yield

    assert module.HEARTBEAT_SECONDS == 30
    monkeypatch.setattr(module, "heartbeat", kept)
    with watch_steps(quiet, "preflight") as steps:
        steps.phase("attacking")
        steps(4, 4)
        steps.phase("checking the number")
    with watch_run(quiet) as watcher:
        watcher(Notice("start", "assess/attack", total=10))
        watcher(Notice("phase", "assess/attack", text="checking the number"))
        watcher(Notice("progress", "assess/attack", done=8, total=10))
    said = [now() for now in told]
    assert said == ([] if quiet else ["checking the number, 100 %", "assess/attack: checking the number, 80 %"])


def drawn() -> tuple[Progress, Console]:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    return Progress(TimeColumn(), console=console, auto_refresh=False), console


def test_time_taken_and_time_left_are_told_apart() -> None:
    bar, _ = drawn()
    now = [0.0]
    bar.get_time = lambda: now[0]
    bar.add_task("x", total=None)
    (task,) = bar.tasks
    now[0] = 4.0
    assert TimeColumn().render(task).plain == "4 s"  # nothing is known of what is left
    bar.update(task.id, total=10)
    for done in range(1, 5):
        now[0] += 2
        bar.update(task.id, completed=done)
    assert TimeColumn().render(task).plain == "12 s, about 12 s left"
    bar.update(task.id, completed=10)
    assert "left" not in TimeColumn().render(task).plain


def test_a_line_in_a_log_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    steps = Steps(None, "control networks")
    steps(20, 40)  # what an earlier process did took no time now
    assert steps.now() == "control networks, 50 %"
    now[0] = 30.0
    steps(21, 40)
    assert steps.now() == "control networks, 52 %, about 10 min left"
    steps(1, 5)  # another count, which begins now
    assert steps.now() == "control networks, 20 %"
    now[0] = 40.0
    steps(2, 5)
    assert steps.now() == "control networks, 40 %, about 30 s left"


def test_a_bar_counts_what_was_done_since_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it forget slow steps, as rich does after half a minute."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar, _ = drawn()
    bar.get_time = lambda: now[0]
    steps = Steps(bar, "control networks")
    steps(20, 40)  # from the cache
    (task,) = bar.tasks
    assert TimeColumn().render(task).plain == "0 s"
    for done in (21, 22):
        now[0] += 60.0
        steps(done, 40)
        assert TimeColumn().render(task).plain.endswith(f"about {40 - done} min left")


@pytest.mark.parametrize("quiet", [True, False])
def test_control_networks_are_announced_on_stderr(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    said = say_plans(quiet)
    for limit in (None, 9000.0, 600.0):
        said("control_networks_planned", {"count": 40, "seconds": 2400.0, "limit_seconds": limit})
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert ["40 min" in line for line in lines] == ([] if quiet else [True] * 3)
    assert ["10 min" in line for line in lines] == ([] if quiet else [False, False, True])


def test_a_part_has_its_own_label_and_does_not_begin_again() -> None:
    bar, _ = drawn()
    steps = Steps(bar, "preflight")
    steps.phase("attacking")
    steps(70, 100)
    steps.phase("checking the number")
    (task,) = bar.tasks
    assert (task.description, task.percentage) == ("checking the number", 70)
    steps(85, 100)
    assert (task.description, task.percentage, task.finished) == ("checking the number", 85, False)


def measured(model: str, metric: str, share: float, condition: str) -> Measurement:
    return Measurement(
        id=f"{model}/{condition}", model=model, metric=metric, value=rate(round(1000 * share), 1000), stage="s",
        replay="", budget=PerturbationBudget("linf", 2 / 255, "2/255"), condition=condition,
    )  # fmt: skip


def test_a_stage_says_what_it_found_by_the_models_title() -> None:
    clean = measured("subject", "clean_accuracy", 0.99, "clean")
    attacked = measured("subject", "robust_accuracy", 0.16, "attacked")
    found = Result(measurements=(clean, attacked))
    assert found_text(found, {"subject": "mine.pt"}) == "mine.pt: 99 % correct on clean images, 16 % under attack"
    curve = Result(measurements=(replace(attacked, condition=CURVE),) * 6)
    assert found_text(curve, {}).endswith("16 % under linf 2/255 and 2 more")
    assert found_text(None, {}) == found_text(Result(), {}) == ""


def test_a_stopped_run_says_where_its_report_is(capsys: pytest.CaptureFixture[str]) -> None:
    with watch_run(False) as watcher:
        watcher(Notice("plan", "", done=3, total=9))
        watcher(Notice("stopped", "", text="out\x1b/report.html"))
    told = capsys.readouterr().err
    assert "out\\x1b/report.html" in told
    assert "[1/3]" not in told  # no stage has ended
