"""What one measure or stage of a run found: typed to the end, kept as JSON between stages, composed into the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from secure_ai.core.budget import Norm
from secure_ai.core.comparisons import Confusion, Distance, Transfer
from secure_ai.core.findings import Finding
from secure_ai.core.results import MeasuredChoice, MeasuredQuantity, Measurement
from secure_ai.core.sections import Picture, Section
from secure_ai.core.trust import Check

SUBJECT = "subject"  # the role of the user's own network


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An entry of `models`.

    Attributes:
        id: e.g. `subject`.
        role: baseline, defended, poisoned, subject or surrogate.
        digest: SHA-256 hex over the weights.
        file: relative to the folder of report.json; empty where the run writes none.
        title: how charts and tables name it; empty: by its id.
        against: id of its clean or undefended twin; empty where it has none.
        user_code: whether code that the user named ran in this process.
        access: what it offers to attacks: gradients, scores or labels.
        fixes: what was changed so that it could be attacked.
    """

    id: str
    role: str
    digest: str
    format: str
    arch: str
    file: str = ""
    title: str = ""
    against: str = ""
    user_code: bool = False
    access: str = "gradients"
    preflight: tuple[Check, ...] = ()
    fixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PerSample:
    """Which samples of a measurement were classified correctly, for comparisons on the same images.

    Attributes:
        id: of the measurement.
        bits: (n,) bool, packed and in base64.
    """

    id: str
    n: int
    bits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What makes the examples behind a measurement again, bit for bit, and the digests that a replay compares with.

    Attributes:
        id: of the measurement.
        attacks: texts of the suite's attacks that read back, every setting written out.
        surrogate: the start of the digest of the network that `transfer` made its examples on; empty: none.
        role, data_digest, n: which data, its SHA-256, how many images.
        threads: of torch; another number sums in another order.
        shards: SHA-256 of each shard's examples.
        robust: samples that withstood.
        example: file index of one that did not.
    """

    id: str
    attacks: tuple[str, ...]
    norm: Norm
    eps: float
    seed: int
    independent: bool
    model_digest: str
    role: str
    data_digest: str
    n: int
    threads: int
    shard_size: int
    shards: tuple[str, ...]
    robust: int
    example: int | None
    surrogate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that one stage found; every list may be empty."""

    measurements: tuple[Measurement, ...] = ()
    quantities: tuple[MeasuredQuantity, ...] = ()
    choices: tuple[MeasuredChoice, ...] = ()
    findings: tuple[Finding, ...] = ()
    sections: tuple[Section, ...] = ()
    pictures: tuple[Picture, ...] = ()
    models: tuple[Model, ...] = ()
    not_tested: tuple[str, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    distances: tuple[Distance, ...] = ()
    per_sample: tuple[PerSample, ...] = ()
    replays: tuple[Replay, ...] = ()


def merged(results: Iterable[Result]) -> Result:
    """All of `results` as one, each list in the order given."""
    every = list(results)
    lists = {f.name: tuple(item for one in every for item in getattr(one, f.name)) for f in fields(Result)}
    return Result(**lists)
