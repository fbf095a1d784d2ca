"""Runs a plan of stages: reuse what is known, do the rest, stop cleanly."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import secure_ai
from secure_ai.core.events import EventSink
from secure_ai.core.machine import BF16_UNITS, cpu_flags
from secure_ai.core.result import Result
from secure_ai.core.versions import versions
from secure_ai.data.dataset import Dataset
from secure_ai.runs.engine.result_file import RESULT_NAME, read_result
from secure_ai.runs.engine.stage import Notice, Outputs, Stage, TimeShortError, Watcher, Work
from secure_ai.runs.engine.store import Record, Store, key_of

# What turns results into documents, or recipes into settings, makes no stage stale; what stages import does.
UNCODED = ("report/", "cli/", "threats/", "runs/", "attacks.py", "__init__.py")
CODED_RUNS = (
    "runs/backdoors/",
    "runs/cases/",
    "runs/engine/",
    "runs/stages/",
    "runs/model_spec.py",
    "runs/user_model.py",
)
MATRIX_UNITS = "amx_bf16"
NO_MATRIX_FACTOR = 3.0


def decides_results(name: str) -> bool:
    """Whether the source file of that name, relative to the package, can change what a stage puts out."""
    return name.endswith((".py", "/known_fleets.json")) and (
        name.startswith(CODED_RUNS) or not name.startswith(UNCODED)
    )


@cache
def results_digest() -> str:
    """SHA-256 over the source that can change a result: part of every stage's key."""
    return _digest(decides_results)


@cache
def code_digest() -> str:
    """SHA-256 over every file of the package, templates and recipes too."""
    return _digest(lambda name: "__pycache__" not in name)


def _digest(counts: Callable[[str], bool]) -> str:
    root = Path(secure_ai.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        if counts(name):
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def limit_factor(precision: str) -> float:
    """A recipe's limit is for bf16 matrix units; three times as long is allowed without."""
    return 1.0 if precision == "auto" and MATRIX_UNITS in cpu_flags() else NO_MATRIX_FACTOR


@dataclass(slots=True)
class Finished:
    """What has happened so far in a run; kept up to date, so that an interrupted run can still be reported."""

    records: dict[str, Record] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)  # done again: the record there was not written with this key
    skipped: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, Result] = field(default_factory=dict)  # what a stage had when it was interrupted

    def outputs(self, store: Store, stage: str) -> Outputs:
        """The files that a finished stage put out, their digests checked."""
        return {name: store.blob(digest) for name, digest in self.records[stage].outputs.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Execution:
    """What all stages of a run share; `device_name` tells kinds of GPU apart."""

    store: Store
    data: Callable[[str], Dataset]
    data_digest: Callable[[str], str]
    precision: Literal["auto", "float32"]
    events: EventSink
    watcher: Watcher
    deadline: float | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    device_name: str = "cpu"


def stage_key(stage: Stage, records: Mapping[str, Record], execution: Execution) -> str:
    """The digest of everything that decides the stage's outputs."""
    import torch  # a plan has loaded it before any key is asked for; a refusal never does

    fingerprint = stage.fingerprint() if stage.fingerprint else ""
    content: dict[str, Any] = {
        "stage": stage.id,
        "fingerprint": secrets.token_hex(16) if fingerprint is None else fingerprint,
        "code": results_digest(),
        "settings": dict(stage.settings),
        "inputs": {need: dict(records[need].outputs) for need in stage.needs},
        "data": {role: execution.data_digest(role) for role in stage.data},
        "precision": [execution.precision, *sorted(cpu_flags() & BF16_UNITS)],
        "device": execution.device_name,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    return key_of(content)


def forecast_seconds(stages: Sequence[Stage]) -> float:
    """Seconds for all of `stages` on this machine, nothing reused."""
    return sum(stage.cost_seconds for stage in stages)


def execute(
    stages: Sequence[Stage], execution: Execution, finished: Finished, after: Callable[[], None] = lambda: None
) -> None:
    """Run `stages` in order, updating `finished`.

    A stage that needs one that was skipped is skipped too, and so is one that raises TimeShortError. Past the deadline
    nothing more is started.

    Args:
        after: called after every stage that ran, so that what is known can be shown before the run ends.

    Raises:
        SecureAIError: a stage failed; KeyboardInterrupt: the user stopped it. `finished` then holds what was done.
    """
    for stage in stages:
        missing = [need for need in stage.needs if need not in finished.records]
        if missing:
            _skip(stage, f"needs {', '.join(missing)}, which did not run", execution, finished)
            continue
        key = stage_key(stage, finished.records, execution)
        record = execution.store.find(key)
        if key in execution.store.foreign:
            finished.foreign.append(stage.id)
        if record is not None:
            finished.reused.append(stage.id)
        elif execution.deadline is not None and time.monotonic() + stage.cost_seconds > execution.deadline:
            _skip(stage, "the time budget would not hold it", execution, finished)
            continue
        else:
            try:
                record = _run_stage(stage, key, execution, finished)
            except TimeShortError as short:
                _skip(stage, str(short), execution, finished)
                continue
        finished.records[stage.id] = record
        finished.seconds[stage.id] = record.seconds
        reused = stage.id in finished.reused
        execution.events("stage_done", {"stage": stage.id, "key": key, "reused": reused, "outputs": record.outputs})
        execution.watcher(_end(stage, record, reused, execution))
        if not reused:
            after()


def recall(stages: Sequence[Stage], execution: Execution, finished: Finished) -> None:
    """Take what the store has of `stages`, in order; run none of them."""
    for stage in stages:
        if any(need not in finished.records for need in stage.needs):
            continue
        record = execution.store.find(stage_key(stage, finished.records, execution))
        if record is not None:
            finished.records[stage.id] = record
            finished.reused.append(stage.id)
            execution.events("stage_recalled", {"stage": stage.id, "outputs": record.outputs})


def _end(stage: Stage, record: Record, reused: bool, execution: Execution) -> Notice:
    digest = record.outputs.get(RESULT_NAME)
    result = None if digest is None else read_result(execution.store.blob(digest), stage.id)
    return Notice("end", stage.id, done=record.seconds, total=stage.cost_seconds, result=result, reused=reused)


def _skip(stage: Stage, reason: str, execution: Execution, finished: Finished) -> None:
    finished.skipped[stage.id] = reason
    execution.events("stage_skipped", {"stage": stage.id, "reason": reason})
    execution.watcher(Notice("end", stage.id, total=stage.cost_seconds, skipped=True))


def _run_stage(stage: Stage, key: str, execution: Execution, finished: Finished) -> Record:
    execution.events("stage_started", {"stage": stage.id, "key": key})
    execution.watcher(Notice("start", stage.id, total=stage.cost_seconds))

    def report(done: int, total: int) -> None:
        execution.watcher(Notice("progress", stage.id, done=done, total=total))

    work = Work(
        stage=stage.id,
        inputs={need: finished.outputs(execution.store, need) for need in stage.needs},
        data=execution.data,
        precision=execution.precision,
        events=execution.events,
        progress=report,
        phase=lambda what: execution.watcher(Notice("phase", stage.id, text=what)),
        stopped=lambda result: finished.stopped.__setitem__(stage.id, result),
        partial=execution.store.partial(key),
        deadline=execution.deadline,
        device=execution.device,
    )
    began = time.perf_counter()
    outputs = stage.function(work)
    record = execution.store.put(stage.id, key, outputs, time.perf_counter() - began)
    work.partial.remove()
    return record
