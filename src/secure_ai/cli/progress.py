"""Progress on stderr: a live line with time left on a terminal, one plain line a stage elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

from secure_ai.cli.process import releaser
from secure_ai.core.errors import printable
from secure_ai.core.events import EventSink
from secure_ai.core.result import Result
from secure_ai.core.results import CURVE, Measurement
from secure_ai.runs.engine.stage import Notice, Watcher, watch_nothing

HEARTBEAT_SECONDS = 30.0
LONG_SECONDS = 100  # from there on in minutes
MOST_RATES = 4  # that the line of a stage names
NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "suite": "the full suite",
    "attacked": "attack",
    "transferred": "borrowed examples",
}
PRIOR_SECONDS = 30.0  # weight of the forecast: one slow first stage does not make hours of minutes


def interactive(quiet: bool) -> bool:
    """Whether a live display makes sense."""
    return not quiet and sys.stderr.isatty() and not os.environ.get("CI")


def say_user_code() -> EventSink:
    """An event sink that tells of code of the user's before it first runs, whatever becomes of it."""
    said: set[str] = set()

    def say(kind: str, data: Mapping[str, Any]) -> None:
        if kind == "user_code" and data["arch"] not in said:
            said.add(data["arch"])
            print(f"running the code of {printable(data['arch'])}", file=sys.stderr, flush=True)

    return say


def say_plans(quiet: bool) -> EventSink:
    """The same, and, unless it is to be quiet, how long control networks will take before the first is trained."""
    said = say_user_code()

    def say(kind: str, data: Mapping[str, Any]) -> None:
        said(kind, data)
        if kind == "control_networks_planned" and not quiet:
            limit = data["limit_seconds"]
            fewer = "" if limit is None or limit >= data["seconds"] else f"; as many as {_span(limit)} allow"
            text = f"{data['count']} control networks: about {_span(data['seconds'])}{fewer}"
            print(text, file=sys.stderr, flush=True)

    return say


@contextlib.contextmanager
def watch_run(quiet: bool) -> Iterator[Watcher]:
    """A watcher of a run's stages, which also gives freed memory back to the system."""
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(_bar()) if interactive(quiet) else None
        watcher: Watcher = watch_nothing if quiet else _Plain() if bar is None else _Live(bar)
        if isinstance(watcher, _Plain):
            stack.enter_context(heartbeat(watcher.now))
        release = releaser()

        def watch(notice: Notice) -> None:
            watcher(notice)
            release()

        yield watch


class Steps:
    """A callback (done, total) for one long step, and `phase` for what it does now."""

    def __init__(self, bar: Progress | None, text: str) -> None:
        self._bar, self._text = bar, text
        self._task = None if bar is None else bar.add_task(text, total=None)
        self._part, self._release = "", releaser()
        self._done, self._from, self._since = math.inf, 0, 0.0

    def __call__(self, done: int, total: int) -> None:
        """So much of it is done."""
        if done < self._done:  # a count begins, or goes on from what an earlier process did
            self._from, self._since = done, time.monotonic()
        self._done, made, spent = done, done - self._from, time.monotonic() - self._since
        left = spent * (total - done) / made if made and done < total else None
        self._part = f", {100 * done // max(1, total)} %{'' if left is None else f', about {_span(left)} left'}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, left=left)
        self._release()

    def phase(self, what: str) -> None:
        """What it does now."""
        self._text = what
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what)

    def now(self) -> str:
        """For a line in a log."""
        return f"{self._text}{self._part}"


@contextlib.contextmanager
def watch_steps(quiet: bool, text: str) -> Iterator[Steps]:
    """Steps that also give freed memory back to the system."""
    with contextlib.ExitStack() as stack:
        steps = Steps(stack.enter_context(_bar()) if interactive(quiet) else None, text)
        if not quiet and not interactive(quiet):
            stack.enter_context(heartbeat(steps.now))
        yield steps


@contextlib.contextmanager
def heartbeat(now: Callable[[], str], seconds: float = HEARTBEAT_SECONDS) -> Iterator[None]:
    """Where no bar is drawn: every 30 s a line that says what is done now, and since when."""
    began, over = time.monotonic(), threading.Event()

    def beat() -> None:
        while not over.wait(seconds):
            print(f"  {now()} ({_span(time.monotonic() - began)} so far)", file=sys.stderr, flush=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=16),
        TaskProgressColumn(),
        TimeColumn(table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
        transient=True,
    )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < LONG_SECONDS else f"{seconds / 60:.0f} min"


class TimeColumn(ProgressColumn):
    """Time taken, and time left where it is known; each says which it is."""

    def render(self, task: Task) -> Text:
        """E.g. `12 s, about 40 s left`."""
        left = task.fields.get("left", task.time_remaining)
        taken = _span(task.elapsed or 0)
        return Text(taken if left is None or task.finished else f"{taken}, about {_span(left)} left")


def _how(notice: Notice) -> str:
    """How a stage ended."""
    return "left out" if notice.skipped else "reused" if notice.reused else f"{notice.done:.1f} s"


def _stopped(notice: Notice) -> str:
    return f"the report of what was finished: {printable(notice.text)}"


def found_text(result: Result | None, titles: Mapping[str, str]) -> str:
    """What a stage found, in one line: `Baseline: 99 % correct on clean images, 16 % under FGSM`."""
    if result is None:
        return ""
    parts = []
    for model in dict.fromkeys(m.model for m in result.measurements):
        said = [text for m in result.measurements if m.model == model and (text := _rate_text(m))]
        if said:
            more = f" and {len(said) - MOST_RATES} more" if len(said) > MOST_RATES else ""
            parts.append(f"{titles.get(model, model)}: {', '.join(said[:MOST_RATES])}{more}")
    return printable("; ".join(parts))


def _rate_text(m: Measurement) -> str:
    if m.value.value is None:
        return ""
    share = f"{100 * m.value.value:.0f} %"
    if m.metric == "clean_accuracy":
        return f"{share} correct on clean images"
    if m.metric == "robust_accuracy":
        return f"{share} under {m.budget if m.condition == CURVE else NAMES.get(m.condition, m.condition)}"
    return f"trigger succeeds on {share}" if m.metric == "backdoor_success_rate" else ""


def page_text(notice: Notice) -> str:
    """Where the report so far is."""
    return f"report so far, replaced as stages end: {printable(notice.text)}"


class _Live:
    """Two bars: this stage by its own progress, and the whole run by forecast seconds."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._run = bar.add_task("whole run", total=None)
        self._stage = bar.add_task("", total=None, visible=False)
        self._done, self._cost = 0.0, 0.0
        self._titles: Mapping[str, str] = {}
        self._page = ""

    def __call__(self, notice: Notice) -> None:
        if notice.kind == "plan":
            self._titles = notice.titles
            self._bar.update(self._run, total=notice.total)
        elif notice.kind == "start":
            self._cost = notice.total
            self._bar.reset(self._stage, total=None, visible=True, description=notice.stage)
        elif notice.kind == "progress":
            self._bar.update(self._stage, completed=notice.done, total=notice.total)
            self._bar.update(self._run, completed=self._done + self._cost * notice.done / notice.total)
        elif notice.kind == "stopped":
            self._bar.console.print(_stopped(notice), highlight=False, markup=False)
        elif notice.kind == "phase":
            self._bar.update(self._stage, description=f"{notice.stage}: {notice.text}")
        elif notice.kind == "page":
            if not self._page:
                self._bar.console.print(escape(f"  {page_text(notice)}"), highlight=False)
            self._page = notice.text
        else:
            self._done += notice.total
            self._bar.update(self._run, completed=self._done)
            found = escape(found_text(notice.result, self._titles))
            self._bar.console.print(f"  {notice.stage}  [dim]{_how(notice)}[/dim]  {found}", highlight=False)


class _Plain:
    """One line a stage, with the time left by forecast, scaled by how the forecasts have held so far."""

    def __init__(self) -> None:
        self._count, self._stages = 0, 0
        self._left, self._forecast, self._took = 0.0, 0.0, 0.0
        self._now, self._part, self._titles = "preparing", "", dict[str, str]()
        self._page = ""

    def now(self) -> str:
        """What is done now."""
        return self._now + self._part

    def __call__(self, notice: Notice) -> None:
        if notice.kind in ("start", "phase"):
            self._now, self._part = notice.stage + (f": {notice.text}" if notice.text else ""), ""
        elif notice.kind == "progress":
            self._part = f", {100 * notice.done / max(1, notice.total):.0f} %"
        elif notice.kind == "plan":
            self._titles = dict(notice.titles)
            self._stages, self._left = int(notice.done), notice.total
            print(
                f"{self._stages} stages, about {_span(notice.total)} if nothing is reused", file=sys.stderr, flush=True
            )
        elif notice.kind == "stopped":
            print(_stopped(notice), file=sys.stderr, flush=True)
        elif notice.kind == "page":
            if not self._page:
                print(page_text(notice), file=sys.stderr, flush=True)
            self._page = notice.text
        elif notice.kind == "end":
            self._now, self._part = f"after {notice.stage}", ""
            self._count += 1
            self._left -= notice.total
            if not notice.reused and not notice.skipped:
                self._forecast += notice.total
                self._took += notice.done
            left = max(0.0, self._left) * (self._took + PRIOR_SECONDS) / (self._forecast + PRIOR_SECONDS)
            line = f"[{self._count}/{self._stages}] {notice.stage}: {_how(notice)}; about {_span(left)} left"
            found = found_text(notice.result, self._titles)
            print(line + (f"\n    {found}" if found else ""), file=sys.stderr, flush=True)
