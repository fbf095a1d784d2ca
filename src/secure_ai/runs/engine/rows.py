"""Runs one row: makes its subjects, calls its function, and keeps what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secure_ai.core.errors import ConfigError
from secure_ai.core.result import Result
from secure_ai.runs.engine.measure import Context, Joint, Measure, Network
from secure_ai.runs.engine.result_file import RESULT_NAME, result_bytes
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.engine.subjects import GivenSubject, TrainedSubject


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What decides a stage about a network that the user gave.

    Attributes:
        file_sha256: of its file; empty where code alone makes it.
        code_sha256: of the code that makes it; empty where a file describes it.
        fingerprint: digest of its logits and gradients, asked for when the run reaches it (`Stage.fingerprint`).
    """

    file_sha256: str
    code_sha256: str
    fingerprint: Callable[[], str | None]


def run_make(network: Network, parents: Sequence[Network], seed: int, work: Work) -> Outputs:
    """Train `network`."""
    if network.make is None:
        raise ConfigError("nothing trains this network", where=network.id, expected="a row with `make`")
    context = _context(seed, work, {})
    return network.make.function(_subjects(parents, {}, work, context), network.make.settings, context)


def run_measure(
    network: Network,
    concerned: Sequence[Network],
    measure: Measure[Any],
    seed: int,
    given: Mapping[str, Given],
    work: Work,
) -> Outputs:
    """Measure `measure` on `network`, which is the first of those concerned; its twin is the other."""
    kept: Outputs = {}
    context = _context(seed, work, kept)
    subjects = _subjects(concerned, given, work, context)
    return _outputs(measure.function(subjects[network.id], measure.settings, context), work, kept)


def run_joint(
    concerned: Sequence[Network], joint: Joint[Any], seed: int, given: Mapping[str, Given], work: Work
) -> Outputs:
    """Measure `joint` on all its networks."""
    kept: Outputs = {}
    context = _context(seed, work, kept)
    subjects = _subjects(concerned, given, work, context)
    return _outputs(joint.function(subjects, joint.settings, context), work, kept)


def _context(seed: int, work: Work, kept: Outputs) -> Context:
    return Context(
        seed=seed,
        data=work.data,
        precision=work.precision,
        events=work.events,
        progress=work.progress,
        partial=work.partial,
        keep=kept.__setitem__,
        deadline=work.deadline,
        device=work.device,
        phase=work.phase,
        stopped=lambda result: work.stopped(_stamped(result, work)),
    )


def _subjects(
    networks: Sequence[Network], given: Mapping[str, Given], work: Work, context: Context
) -> dict[str, Subject]:
    """The subjects by id; one whose twin is among them knows it."""
    found: dict[str, Subject] = {}
    for network in reversed(networks):
        other = found.get(network.against)
        if network.id in given:
            found[network.id] = GivenSubject(network, context, {}, other, given[network.id].file_sha256)
        else:
            found[network.id] = TrainedSubject(network, context, work.inputs[network.id], other)
    return {network.id: found[network.id] for network in networks}


def _outputs(result: Result, work: Work, kept: Outputs) -> Outputs:
    """`result.json` with the stage's id in everything it measured, and what else was kept."""
    return {RESULT_NAME: result_bytes(_stamped(result, work)), **kept}


def _stamped(result: Result, work: Work) -> Result:
    stamped = {
        name: tuple(replace(entry, stage=work.stage) for entry in getattr(result, name))
        for name in ("measurements", "quantities", "choices", "distances")
    }
    return replace(result, **stamped)
