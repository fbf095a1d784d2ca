"""The verb `run`: recipe in, stages done or reused, report out. Interrupted, it leaves a report that says so."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from secure_ai.core.errors import (
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    EnvironmentFailedError,
    LeakError,
    SecureAIError,
    ShapeError,
    UsageError,
)
from secure_ai.core.events import EventLog, EventSink, ignore_event
from secure_ai.core.findings import FailOn
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.splits import refuse_leak
from secure_ai.files.write import lock_folder, make_folder, remove_stale
from secure_ai.report.model import Report, report_bytes
from secure_ai.report.render.verdict import gate_report
from secure_ai.runs.assemble import RunFacts, assemble
from secure_ai.runs.documents import write_documents
from secure_ai.runs.engine.execute import Context, Finished, execute, forecast_seconds, limit_factor, machine_factor
from secure_ai.runs.engine.stage import Notice, Stage, Watcher, watch_nothing
from secure_ai.runs.engine.store import Store
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe import assess_plan, defaults
from secure_ai.runs.recipe.config import Change
from secure_ai.runs.recipe.origins import Origin
from secure_ai.runs.recipe.plan import plan
from secure_ai.runs.recipe.recipe import Recipe, load_recipe
from secure_ai.runs.recipe.requests import refuse_attacks

REPORTS_SHAPE, REPORTS_CLASSES = (1, 28, 28), 10
MOST_SHARED = 0.01  # share of test images that may be training images: MNIST has none


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


@dataclass(slots=True)
class EarlyEvents:
    """A sink that keeps events until there is a log to write them to: a refused input writes nothing."""

    kept: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    log: EventSink | None = None

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep the event, or pass it on."""
        if self.log is None:
            self.kept.append((kind, data))
        else:
            self.log(kind, data)

    def pass_on(self, log: EventSink) -> None:
        """From now on everything goes to `log`, what was kept first."""
        self.log = log
        for kind, data in self.kept:
            log(kind, data)


@dataclass(slots=True, eq=False)
class DataSets:
    """Data sets by role, each loaded once and only when a stage or a key asks for it."""

    recipe: Recipe
    events: EventSink
    loaded: dict[str, Dataset] = field(default_factory=dict)

    def get(self, role: str) -> Dataset:
        """The data set of `train` or `test`."""
        if role not in self.loaded:
            section, seed = self.recipe.data, self.recipe.seed
            if role == "train":
                dataset = load_data(section.train, split="train", seed=seed, events=self.events)
            else:
                dataset = load_data(section.test, split=section.split, n=section.n, seed=seed, events=self.events)
            self.loaded[role] = dataset
        return self.loaded[role]

    def digest(self, role: str) -> str:
        """SHA-256 of that data set."""
        return self.get(role).digest


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A run that was asked for and can be done: everything is checked, nothing is written yet."""

    recipe: Recipe
    model: ModelSpec | None
    sets: DataSets
    events: EarlyEvents
    stages: list[Stage]
    command: str


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
    events: EventSink = ignore_event,
) -> RunResult:
    """Do what a recipe says and write every output file of a run.

    Args:
        recipe: a built-in name or a TOML file; default `assess` with a model, `report-2` with a mode, else `standard`.
        model: the network of the user's own that `assess` is about.
        data: what to assess it on, in the forms of `--data`.
        mode: one of report 2's four modes.
        changes: changes of the recipe, as `Change`s or `KEY=VALUE` texts; a later one wins.
        out: the output folder, made where missing.
        time_budget: seconds; a stage that would not fit is left out and listed as not tested.
        fresh: reuse nothing.
        fail_on: findings at or above this severity (not planted ones) make the exit code 1; without one, a robust
            accuracy of the network that is not `reliable` makes it 3.
        events: gets every event that the log of the run gets.

    Raises:
        SecureAIError: bad input (then nothing was written), or a stage failed.
        KeyboardInterrupt: stopped; a report marked incomplete is written.
    """
    prepared = _prepare(recipe, model, data, mode, changes, seed, precision)
    folder = make_folder(Path(out))
    with lock_folder(folder):
        remove_stale(folder)
        if fresh:
            _forget(folder / ".store")
        log = EventLog(folder / "events.jsonl")
        tell = _both(log, events)
        tell("run_started", {"recipe": prepared.recipe.name, "seed": prepared.recipe.seed})
        prepared.events.pass_on(tell)
        began = time.monotonic()
        context = Context(
            store=Store(folder / ".store", tell),
            data=prepared.sets.get,
            data_digest=prepared.sets.digest,
            precision=precision,
            events=tell,
            watcher=watcher,
            deadline=None if time_budget is None else began + time_budget,
        )
        watcher(Notice("plan", "", done=len(prepared.stages), total=forecast_seconds(prepared.stages, precision)))
        finished = Finished()

        def report(complete: bool) -> Report:
            facts = RunFacts(
                recipe=prepared.recipe,
                stages=prepared.stages,
                finished=finished,
                context=context,
                data=prepared.sets.loaded,
                seconds=time.monotonic() - began,
                complete=complete,
                model=prepared.model,
                command=prepared.command,
            )
            return write_documents(folder, facts, assemble(facts), log)

        try:
            execute(prepared.stages, context, finished)
        except (KeyboardInterrupt, SecureAIError) as error:
            tell("run_stopped", {"reason": type(error).__name__})
            _report_what_there_is(report, tell)
            raise
        complete = not finished.skipped
        content = report(complete)
        as_json = json.loads(report_bytes(content))
        return RunResult(as_json, folder, _exit_code(content, complete, fail_on), tuple(finished.reused))


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
    prepared = _prepare(recipe, model, data, mode, changes, seed, precision)
    factor = machine_factor(precision)
    limit = limit_factor(precision) * prepared.recipe.limit_seconds
    seconds = {stage.id: factor * stage.cost_seconds for stage in prepared.stages}
    return Forecast(prepared.recipe.name, seconds, sum(seconds.values()), limit)


def _prepare(
    name: str | None,
    model: ModelSpec | None,
    data: str | None,
    mode: str | None,
    changes: Sequence[Change | str],
    seed: int | None,
    precision: str,
) -> Prepared:
    name = name or ("assess" if model else "report-2" if mode else "standard")
    flags = {"report_2.modes": None if mode is None else [mode], "data.test": data, "seed": seed}
    every = [
        *changes,
        *(Change(key, value, "a flag", Origin.FLAG) for key, value in flags.items() if value is not None),
    ]
    recipe = load_recipe(name, every)
    if model is not None and "assess" not in recipe.parts:
        raise UsageError("this recipe assesses no network", where="--model", expected="--recipe assess", got=name)
    if mode is not None and not {"report-2"} <= set(recipe.parts) <= {"report-2", "audit"}:
        raise UsageError("modes are report 2's", where="--mode", expected="--recipe report-2", got=name)
    events = EarlyEvents()
    sets = DataSets(recipe, events)
    sizes = _report_data(recipe, sets)
    of_model = assess_plan.stages(recipe, model, events)  # its file first: a bad one asks for no data
    refuse_attacks(recipe, model.access if model else None, lambda: sets.get("test"))
    return Prepared(recipe, model, sets, events, plan(recipe, sizes, of_model), _command(name, model, every, precision))


def _report_data(recipe: Recipe, sets: DataSets) -> dict[str, int]:
    """Images by role, where the reports are done; data that their networks cannot take is refused."""
    if not {"report-1", "report-2"} & set(recipe.parts):
        return {}
    shared, n = refuse_leak(sets.get("train"), sets.get("test")), len(sets.get("test"))
    if shared > MOST_SHARED * n:
        raise LeakError(
            "test images are in the training data too",
            where="data",
            expected=f"<= {MOST_SHARED:.0%}",
            got=f"{shared} of {n}",
        )
    for role in ("train", "test"):
        dataset = sets.get(role)
        if dataset.input_shape != REPORTS_SHAPE or dataset.classes > REPORTS_CLASSES:
            raise ShapeError(
                "the reports' networks cannot take this data",
                where=f"data.{role}",
                expected=f"images {REPORTS_SHAPE} of at most {REPORTS_CLASSES} classes",
                got=f"{dataset.input_shape}, {dataset.classes} classes",
            )
    return {role: len(sets.get(role)) for role in ("train", "test")}


def _command(name: str, model: ModelSpec | None, changes: Sequence[Change | str], precision: str) -> str:
    """The command line that does the same again."""
    words = ["secure-ai", "run", "--recipe", name, *(model.words() if model else ())]
    for change in changes:
        words += ["--set", change if isinstance(change, str) else f"{change.key}={json.dumps(change.value)}"]
    return shlex.join(words + (["--precision", precision] if precision != "auto" else []))


def _both(first: EventSink, second: EventSink) -> EventSink:
    def tell(kind: str, data: Mapping[str, Any]) -> None:
        first(kind, data)
        second(kind, data)

    return tell


def _forget(store: Path) -> None:
    """Remove what earlier runs kept, so that nothing of it is reused."""
    try:
        if store.exists() or store.is_symlink():
            shutil.rmtree(store)
    except OSError as error:
        raise EnvironmentFailedError(
            "earlier results cannot be removed", where=store.name, expected="a folder that --fresh may empty",
            got=str(error.strerror or error), hint="remove it yourself, or name another --out",
        ) from error  # fmt: skip


def _report_what_there_is(report: Callable[[bool], object], events: EventSink) -> None:
    try:
        report(False)
    except SecureAIError as error:
        # What stopped the run may stop its report too, a full disk or a lost file: the first error is the one to show.
        events("report_failed", {"reason": error.code})


def _exit_code(report: Report, complete: bool, fail_on: FailOn) -> int:
    code = gate_report(report, fail_on)
    return EXIT_INCONCLUSIVE if code == EXIT_OK and not complete else code
