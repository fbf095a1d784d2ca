"""Progress on stderr: a live line with time left on a terminal, one plain line a stage elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from secure_ai.cli.process import releaser
from secure_ai.core.errors import printable
from secure_ai.core.events import EventSink
from secure_ai.runs.engine.stage import Notice, Watcher, watch_nothing

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


@contextlib.contextmanager
def watch_run(quiet: bool) -> Iterator[Watcher]:
    """A watcher of a run's stages, which also gives freed memory back to the system."""
    with _bar() if interactive(quiet) else contextlib.nullcontext() as bar:
        watcher: Watcher = watch_nothing if quiet else _Plain() if bar is None else _Live(bar)
        release = releaser()

        def watch(notice: Notice) -> None:
            watcher(notice)
            release()

        yield watch


@contextlib.contextmanager
def watch_steps(quiet: bool, text: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) for one long step, which also gives freed memory back to the system."""
    with _bar() if interactive(quiet) else contextlib.nullcontext() as bar:
        task = None if bar is None else bar.add_task(text, total=None)
        release = releaser()

        def watch(done: int, total: int) -> None:
            if bar is not None and task is not None:
                bar.update(task, completed=done, total=total)
            release()

        yield watch


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _how(notice: Notice) -> str:
    """How a stage ended."""
    return "left out" if notice.skipped else "reused" if notice.reused else f"{notice.done:.1f} s"


class _Live:
    """Two bars: this stage by its own progress, and the whole run by forecast seconds."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._run = bar.add_task("whole run", total=None)
        self._stage = bar.add_task("", total=None, visible=False)
        self._done, self._cost = 0.0, 0.0

    def __call__(self, notice: Notice) -> None:
        if notice.kind == "plan":
            self._bar.update(self._run, total=notice.total)
        elif notice.kind == "start":
            self._cost = notice.total
            self._bar.reset(self._stage, total=None, visible=True, description=notice.stage)
        elif notice.kind == "progress":
            self._bar.update(self._stage, completed=notice.done, total=notice.total)
            self._bar.update(self._run, completed=self._done + self._cost * notice.done / notice.total)
        else:
            self._done += notice.total
            self._bar.update(self._run, completed=self._done)
            self._bar.console.print(f"  {notice.stage}  [dim]{_how(notice)}[/dim]", highlight=False)


class _Plain:
    """One line a stage, with the time left by forecast, scaled by how the forecasts have held so far."""

    def __init__(self) -> None:
        self._count, self._stages = 0, 0
        self._left, self._forecast, self._took = 0.0, 0.0, 0.0

    def __call__(self, notice: Notice) -> None:
        if notice.kind == "plan":
            self._stages, self._left = int(notice.done), notice.total
            print(
                f"{self._stages} stages, about {notice.total:.0f} s if nothing is reused", file=sys.stderr, flush=True
            )
        elif notice.kind == "end":
            self._count += 1
            self._left -= notice.total
            if not notice.reused and not notice.skipped:
                self._forecast += notice.total
                self._took += notice.done
            left = self._left * (self._took + PRIOR_SECONDS) / (self._forecast + PRIOR_SECONDS)
            line = f"[{self._count}/{self._stages}] {notice.stage}: {_how(notice)}; about {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)
