"""The verb `run`: recipe in, stages done or reused, report out. Interrupted, it leaves a report that says so."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_OK, EnvironmentFailedError, SecureAIError
from secure_ai.core.events import EventLog, EventSink, ignore_event
from secure_ai.core.findings import FailOn
from secure_ai.files.seal import user_seal
from secure_ai.files.write import lock_folder, make_folder, remove_stale
from secure_ai.report.model import Report
from secure_ai.report.render.verdict import gate_report
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.engine.execute import Execution, Finished, execute, forecast_seconds, limit_factor, recall
from secure_ai.runs.engine.stage import Notice, Watcher, watch_nothing
from secure_ai.runs.engine.store import Store
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.outputs.assemble import assemble
from secure_ai.runs.outputs.documents import write_documents, write_early_page
from secure_ai.runs.outputs.facts import RunFacts
from secure_ai.runs.recipe import defaults
from secure_ai.runs.recipe.config import Change
from secure_ai.runs.recipe.prepare import Prepared, prepare

PAGE_SHARE = 0.05  # of a run's time spent on pages of what is known so far


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What a run leaves: the report, the folder it is in, and the exit code it stands for."""

    report: Report
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
    device: Literal["auto", "cpu", "cuda"] = "auto",
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
        device: cpu, cuda or auto: a GPU where there is one, but the CPU where figures are compared with published ones.
        fail_on: findings at or above this severity (not planted ones) make the exit code 1; without one, a robust
            accuracy of the network that is not `reliable` makes it 3.
        events: gets every event that the log of the run gets.

    Raises:
        SecureAIError: bad input (then nothing was written), or a stage failed.
        KeyboardInterrupt: stopped; a report marked incomplete is written.
    """
    prepared = prepare(recipe, model, data, mode, changes, seed, precision)
    chosen, name = _device(prepared, device)
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
        execution = Execution(
            store=Store(folder / ".store", tell, user_seal()),
            data=prepared.sets.get,
            data_digest=prepared.sets.digest,
            device=chosen,
            device_name=name,
            precision=precision,
            events=tell,
            watcher=watcher,
            deadline=None if time_budget is None else began + time_budget,
        )
        outputs = _Outputs(folder, prepared, execution, log, began)
        stages = prepared.plan.stages
        titles = {name: network.title for name, network in prepared.plan.networks.items()}
        watcher(Notice("plan", "", done=len(stages), total=forecast_seconds(stages), titles=titles))
        try:
            execute(stages, execution, outputs.finished, outputs.write_early)
            recall(prepared.plan.known, execution, outputs.finished)
        except (KeyboardInterrupt, SecureAIError) as error:
            tell("run_stopped", {"reason": type(error).__name__})
            if outputs.write_what_there_is():
                watcher(Notice("stopped", "", text=str(folder / "report.html")))
            raise
        complete = not outputs.finished.skipped
        report = outputs.write(complete)
        return RunResult(report, folder, _exit_code(report, complete, fail_on), tuple(outputs.finished.reused))


class _Outputs:
    """The report and files of one run: a first page early, all of them at the end."""

    def __init__(self, folder: Path, prepared: Prepared, execution: Execution, log: EventLog, began: float) -> None:
        self.finished = Finished()
        self._folder, self._prepared, self._execution = folder, prepared, execution
        self._log, self._began = log, began
        self._next_page = began

    def _facts(self, complete: bool) -> RunFacts:
        return RunFacts(
            recipe=self._prepared.recipe,
            plan=self._prepared.plan,
            finished=self.finished,
            execution=self._execution,
            data=self._prepared.sets.loaded,
            seconds=time.monotonic() - self._began,
            complete=complete,
            model=self._prepared.model,
            command=self._prepared.command,
        )

    def write(self, complete: bool) -> Report:
        """Every file; returns the report."""
        facts = self._facts(complete)
        report = assemble(facts)
        write_documents(self._folder, facts, report, self._log)
        return report

    def write_early(self) -> None:
        """The page of what is known so far: after every stage, unless pages would take more than their share."""
        now = time.monotonic()
        if now >= self._next_page:
            write_early_page(self._folder, self._facts(complete=False))
            took = time.monotonic() - now
            self._next_page = now + took / PAGE_SHARE
            self._execution.watcher(Notice("page", "", text=str(self._folder / "report.html")))

    def write_what_there_is(self) -> bool:
        """Every file after a stop. What stopped the run may stop this too, a full disk or a lost file."""
        try:
            self.write(complete=False)
        except SecureAIError as error:  # the first error is the one to show
            self._execution.events("report_failed", {"reason": error.code})
            return False
        return True


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
    prepared = prepare(recipe, model, data, mode, changes, seed, precision)
    limit = limit_factor(precision) * prepared.recipe.limit_seconds
    seconds = {stage.id: stage.cost_seconds for stage in prepared.plan.stages}
    return Forecast(prepared.recipe.name, seconds, sum(seconds.values()), limit)


def _device(prepared: Prepared, device: Literal["auto", "cpu", "cuda"]) -> tuple[Literal["cpu", "cuda"], str]:
    """The device of every stage, and its name."""
    from secure_ai.core.compute import choose_device, device_name  # torch, once nothing is left to refuse

    compared = any(case.id in prepared.recipe.parts for case in CASES)
    chosen = choose_device("cpu" if compared and device == "auto" else device)
    return ("cuda" if chosen.type == "cuda" else "cpu"), device_name(chosen)


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


def _exit_code(report: Report, complete: bool, fail_on: FailOn) -> int:
    code = gate_report(report, fail_on)
    return EXIT_INCONCLUSIVE if code == EXIT_OK and not complete else code
