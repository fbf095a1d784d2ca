"""The verb `run`: recipe in, stages done or reused, report out. Interrupted, it leaves a report that says so."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from secure_ai.core.errors import EXIT_FINDINGS, EXIT_INCONCLUSIVE, EXIT_OK, EnvironmentFailedError, SecureAIError
from secure_ai.core.events import EventLog, EventSink, ignore_event
from secure_ai.core.findings import Severity
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.splits import refuse_leak
from secure_ai.files.write import lock_folder, make_folder, remove_stale
from secure_ai.runs import assess, defaults
from secure_ai.runs.assemble import RunFacts, assemble
from secure_ai.runs.config import Change
from secure_ai.runs.documents import write_documents
from secure_ai.runs.execute import Context, Progress, execute, forecast_seconds, machine_factor
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.plan import plan
from secure_ai.runs.recipe import Recipe, load_recipe
from secure_ai.runs.stage import Notice, Stage, Watcher, watch_nothing
from secure_ai.runs.store import Store

FailOn = Literal["critical", "high", "medium", "low", "never"]


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What a run leaves: the report as parsed JSON, the folder it is in, and the exit code it stands for."""

    report: Mapping[str, Any]
    folder: Path
    exit_code: int
    reused: Sequence[str]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do: seconds a stage on this machine, nothing reused, and the recipe's limit here."""

    recipe: str
    stages: Mapping[str, float]
    seconds: float
    limit_seconds: float


@dataclass(slots=True, eq=False)
class DataSets:
    """Data sets by role, each loaded once and only when a stage or a key asks for it."""

    recipe: Recipe
    events: EventSink
    loaded: dict[str, Dataset] = field(default_factory=dict)

    def get(self, role: str) -> Dataset:
        """The data set of `train` or `test`."""
        if role not in self.loaded:
            section = self.recipe.data
            text, split, n = (
                (section.train, "train", None) if role == "train" else (section.test, section.split, section.n)
            )
            self.loaded[role] = load_data(text, split=split, n=n, seed=self.recipe.seed, events=self.events)
        return self.loaded[role]

    def digest(self, role: str) -> str:
        """SHA-256 of that data set."""
        return self.get(role).digest


def run(
    recipe: str | None = None,
    *,
    model: ModelSpec | None = None,
    data: str | None = None,
    mode: str | None = None,
    changes: Sequence[Change | str] = (),
    out: str | Path = defaults.OUT,
    time_budget: float | None = None,
    fresh: bool = False,
    seed: int | None = None,
    precision: Literal["auto", "float32"] = "auto",
    fail_on: FailOn = "never",
    watcher: Watcher = watch_nothing,
) -> RunResult:
    """Do what a recipe says and write every output file of a run.

    Args:
        recipe: a built-in name or a TOML file; default `assess` with a model, else `standard`.
        model: the network of the user's own that `assess` is about.
        data: what to assess it on, in the forms of `--data`.
        mode: one of report 2's four modes.
        changes: changes of the recipe, as `Change`s or `KEY=VALUE` texts; a later one wins.
        out: the output folder, made where missing.
        time_budget: seconds; a stage that would not fit is left out and listed as not tested.
        fresh: reuse nothing.
        fail_on: findings at or above this severity (not planted ones) make the exit code 1.

    Raises:
        SecureAIError: bad input, or a stage failed. KeyboardInterrupt: stopped; a report marked incomplete is written.
    """
    resolved = resolve(recipe, model=model, data=data, mode=mode, changes=changes, seed=seed)
    folder = make_folder(Path(out))
    with lock_folder(folder):
        remove_stale(folder)
        if fresh:
            shutil.rmtree(folder / ".store", ignore_errors=True)
        events = EventLog(folder / "events.jsonl")
        events("run_started", {"recipe": resolved.name, "seed": resolved.seed})
        sets = DataSets(resolved, events)
        began = time.monotonic()
        context = Context(
            store=Store(folder / ".store", events),
            data=sets.get,
            data_digest=sets.digest,
            precision=precision,
            events=events,
            watcher=watcher,
            deadline=None if time_budget is None else began + time_budget,
        )
        stages = _stages(resolved, model, sets)
        watcher(Notice("plan", "", done=len(stages), total=forecast_seconds(stages, precision)))
        return _execute_and_report(resolved, stages, context, sets, folder, events, began, fail_on, model)


def resolve(
    recipe: str | None,
    *,
    model: ModelSpec | None = None,
    data: str | None = None,
    mode: str | None = None,
    changes: Sequence[Change | str] = (),
    seed: int | None = None,
) -> Recipe:
    """The recipe with every flag applied. Raises ConfigError."""
    extra = list(changes)
    flags = {"report_2.modes": None if mode is None else [mode], "data.test": data, "seed": seed}
    extra += [Change(key, value, "a flag") for key, value in flags.items() if value is not None]
    default = "assess" if model else "report-2" if mode else "standard"
    return load_recipe(recipe or default, extra)


def forecast(
    recipe: str | None = None,
    *,
    model: ModelSpec | None = None,
    data: str | None = None,
    mode: str | None = None,
    changes: Sequence[Change | str] = (),
    seed: int | None = None,
    precision: Literal["auto", "float32"] = "auto",
) -> Forecast:
    """What `run` with the same arguments would cost; writes nothing."""
    resolved = resolve(recipe, model=model, data=data, mode=mode, changes=changes, seed=seed)
    stages = _stages(resolved, model, DataSets(resolved, ignore_event))
    factor = machine_factor(precision)
    seconds = {stage.id: factor * stage.cost_seconds for stage in stages}
    return Forecast(resolved.name, seconds, sum(seconds.values()), factor * resolved.limit_seconds)


def _stages(recipe: Recipe, model: ModelSpec | None, sets: DataSets) -> list[Stage]:
    sizes: dict[str, int] = {}
    if {"report-1", "report-2"} & set(recipe.parts):
        refuse_leak(sets.get("train"), sets.get("test"))
        sizes = {role: len(sets.get(role)) for role in ("train", "test")}
    return plan(recipe, sizes, assess.stages(recipe, model))


def _execute_and_report(
    recipe: Recipe,
    stages: list[Stage],
    context: Context,
    sets: DataSets,
    folder: Path,
    events: EventLog,
    began: float,
    fail_on: FailOn,
    model: ModelSpec | None,
) -> RunResult:
    progress = Progress()

    def report(complete: bool) -> dict[str, Any]:
        facts = RunFacts(recipe, stages, progress, context, sets.loaded, time.monotonic() - began, complete, model)
        content = assemble(facts)
        write_documents(folder, facts, content, events)
        return content

    try:
        execute(stages, context, progress)
    except (KeyboardInterrupt, SecureAIError) as error:
        events("run_stopped", {"reason": type(error).__name__})
        _report_what_there_is(report, events)
        raise
    complete = not progress.skipped
    content = report(complete)
    return RunResult(content, folder, _exit_code(content, complete, fail_on), tuple(progress.reused))


def _report_what_there_is(report: Callable[[bool], object], events: EventSink) -> None:
    try:
        report(False)
    except EnvironmentFailedError as error:
        # The disk that stopped the run stops its report too: the first error is the one to show.
        events("report_failed", {"reason": error.code})


def _exit_code(report: Mapping[str, Any], complete: bool, fail_on: FailOn) -> int:
    if fail_on != "never":
        limit = Severity(fail_on).rank
        if any(not f["planted"] and Severity(f["severity"]).rank >= limit for f in report["findings"]):
            return EXIT_FINDINGS
    return EXIT_OK if complete else EXIT_INCONCLUSIVE
