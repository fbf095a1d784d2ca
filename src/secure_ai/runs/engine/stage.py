"""The stage: one cached step of a run, a pure function of the digests of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from secure_ai.core.events import EventSink
from secure_ai.core.result import Result
from secure_ai.data.dataset import Dataset
from secure_ai.files.seal import SealedFile

Outputs = dict[str, bytes]
StageProgress = Callable[[int, int], None]


class TimeShortError(Exception):
    """Raised by a stage that the time budget does not hold after all: it is skipped, and nothing of it is stored."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What a stage's function is given; it may use nothing else.

    Attributes:
        stage: its id.
        inputs: outputs of the stages it needs, by stage id and file name.
        data: loads a data set by its role (`train`, `test`).
        phase: told what a long stage does now.
        stopped: takes what a stage had when it was interrupted, before the interruption is raised again.
        partial: where state to resume from may be kept.
        deadline: `time.monotonic()` past which nothing more should be begun; None: none.
    """

    stage: str
    inputs: Mapping[str, Mapping[str, bytes]]
    data: Callable[[str], Dataset]
    precision: Literal["auto", "float32"]
    events: EventSink
    progress: StageProgress
    phase: Callable[[str], None]
    stopped: Callable[[Result], None]
    partial: SealedFile
    deadline: float | None = None
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step.

    Attributes:
        id: unique in the run, e.g. `subject/clean`.
        function: makes the outputs.
        settings: everything that decides the result, besides inputs and data, as JSON; part of its key.
        fingerprint: more of its key, asked for when the run reaches it; None from it: the stage is never reused.
        needs: ids of the stages whose outputs it reads.
        data: roles of the data sets it reads.
        cost_seconds: forecast on this machine.
    """

    id: str
    function: Callable[[Work], Outputs]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    cost_seconds: float = 1.0
    fingerprint: Callable[[], str | None] | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What a run tells whoever watches it.

    Attributes:
        done: plan: number of stages; progress: part of `total`; end: seconds it took when it ran.
        total: plan, start and end: forecast seconds; progress: the whole.
        text: phase: what the stage does now; page, stopped: where the report of what is known so far was written.
        result: end: what it found; None where it trained.
        titles: plan: of the networks, by id.
    """

    kind: Literal["plan", "start", "progress", "phase", "end", "page", "stopped"]
    stage: str
    done: float = 0.0
    total: float = 0.0
    text: str = ""
    result: Result | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    reused: bool = False
    skipped: bool = False


Watcher = Callable[[Notice], None]


def watch_nothing(notice: Notice) -> None:
    """The watcher for callers that show nothing."""
