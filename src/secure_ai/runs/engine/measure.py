"""A network of a run and what is measured on it, as values: plan, report and pictures follow from these rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from secure_ai.core.events import EventSink
from secure_ai.core.result import Result
from secure_ai.data.dataset import Dataset
from secure_ai.files.seal import SealedFile
from secure_ai.runs.engine.stage import Outputs, StageProgress
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.model_spec import ModelSpec

Need = Literal["file", "labels", "scores", "gradients", "train", "test", "twin"]
Role = Literal["baseline", "defended", "poisoned", "subject", "surrogate"]


class Settings(BaseModel):
    """Everything but the seed that decides a result; a measure or a training has its own subclass, or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Passes:
    """What a stage costs, in samples through the network: forward, backward to pixels, and steps of training."""

    forward: float = 0
    backward: float = 0
    training: float = 0


def ignore_phase(what: str) -> None:
    """For callers that show none."""


def ignore_stopped(result: Result) -> None:
    """For callers that keep nothing of a stage that was interrupted."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a measure or a training is given besides its subject and its settings.

    Attributes:
        data: loads a data set by its role (`train`, `test`).
        partial: a file that state to resume from may be kept in.
        keep: keeps more output beside the result; names that begin with `files/` are copied into the run's folder.
        deadline: `time.monotonic()` past which nothing more should be begun; None: none.
        phase, stopped: as of `Work`.
    """

    seed: int
    data: Callable[[str], Dataset]
    precision: Literal["auto", "float32"]
    events: EventSink
    progress: StageProgress
    partial: SealedFile
    keep: Callable[[str, bytes], None]
    deadline: float | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    phase: Callable[[str], None] = ignore_phase
    stopped: Callable[[Result], None] = ignore_stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure(Generic[S]):
    """One thing measured on one network.

    Attributes:
        id: unique on its network; the stage's id is `NETWORK/MEASURE`.
        function: (subject, settings, context) -> Result.
        needs: what the network and the run must offer; what is missing is refused when the plan is made.
        passes: (settings, n images, fraction expected to withstand attacks) -> cost; of the training images where it
            needs those, else of the test images.
        answers: ids of the register's rows that it gives evidence for.
    """

    id: str
    function: Callable[[Subject, S, Context], Result]
    settings: S
    needs: frozenset[Need] = frozenset({"test"})
    passes: Callable[[S, int, float], Passes] = field(default=lambda settings, n, holds: Passes(n))
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint(Generic[S]):
    """One thing measured on several networks at once, or on none: (subjects by id, settings, context) -> Result.

    Attributes:
        networks: ids; all must be in the run.
        data: roles of the data sets that it reads.
        seconds: forecast where it makes no passes.
    """

    id: str
    function: Callable[[Mapping[str, Subject], S, Context], Result]
    settings: S
    networks: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    passes: Callable[[S, int, float], Passes] = field(default=lambda settings, n, holds: Passes())
    seconds: float = 0
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Make(Generic[S]):
    """How a network is trained: (earlier networks by id, settings, context) -> its files (`stages.training`).

    Attributes:
        parents: ids of the networks it starts from.
        passes: (settings, n training images) -> cost.
    """

    function: Callable[[Mapping[str, Subject], S, Context], Outputs]
    settings: S
    passes: Callable[[S, int], Passes]
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network of a run.

    Attributes:
        id: e.g. `subject`; id of its entry in `models`.
        title: how tables and charts name it.
        arch: a built-in name, or the text of `--arch`.
        file: name of its file in `models/`, without ending; empty where the run writes none.
        make: how it is trained; None where it was given.
        spec: the file and how to read it, where it was given.
        against: id of its clean or undefended twin in the same run; empty: none.
        card: the family of before-and-after comparisons that it is in; empty: none.
        holds: fraction of images expected to withstand attacks: for the forecast only.
        copy: it has the weights of another network of the run, to be measured otherwise.
    """

    id: str
    role: Role
    title: str
    arch: str
    file: str = ""
    make: Make[Any] | None = None
    spec: ModelSpec | None = None
    against: str = ""
    card: str = ""
    measures: tuple[Measure[Any], ...] = ()
    holds: float = 0.3
    copy: bool = False


def offered(network: Network) -> frozenset[Need]:
    """What `network` offers to measures; scores or labels only where a user's network was given as such."""
    access = network.spec.access if network.spec else "gradients"
    levels: Mapping[str | None, Sequence[Need]] = {
        "labels": ("labels",),
        "scores": ("labels", "scores"),
        None: ("labels", "scores", "gradients"),
        "gradients": ("labels", "scores", "gradients"),
    }
    has_file = network.make is not None or (network.spec is not None and network.spec.model is not None)
    return frozenset(
        {
            "test",
            *levels[access],
            *(("file",) if has_file else ()),
            *(("twin",) if network.against else ()),
            *(("train",) if network.make is not None else ()),
        }
    )
