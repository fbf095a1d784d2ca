from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from secure_ai.core.events import ignore_event
from secure_ai.core.results import Measurement
from secure_ai.files.seal import Seal, SealedFile
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.engine.measure import Context, Settings
from secure_ai.runs.engine.store import Store
from secure_ai.runs.stages import refusals
from secure_ai.threats.model import ThreatStatus
from secure_ai.threats.register import threat_rows

THREATS = [row for case in CASES for row in case.threats]


def measured(tmp_path: Path) -> tuple[Measurement, ...]:
    def no_data(role: str) -> object:
        raise KeyError(role)

    context = Context(
        seed=1,
        data=no_data,  # type: ignore[arg-type]  # never called
        precision="auto",
        events=ignore_event,
        progress=lambda done, total: None,
        partial=SealedFile(tmp_path, "partial", "test", Seal(None)),
        keep=lambda name, content: None,
    )
    return refusals.refusals({}, Settings(), context).measurements


def status(measurements: tuple[Measurement, ...], name: str) -> ThreatStatus:
    return next(row.status for row in threat_rows(THREATS, measurements, ()) if row.id.endswith(name))


def test_every_hostile_file_is_refused_and_every_clean_one_accepted(tmp_path: Path) -> None:
    rates = {m.id: m.value for m in measured(tmp_path)}
    assert len(rates) == 6
    assert all(rate.value == 1.0 and rate.n >= 12 for rate in rates.values())
    assert rates["check/altered-model/refused"].n == 200


@pytest.mark.parametrize(
    ("reader", "row"),
    [("read_artifact", "safe-formats"), ("load_npz", "integrity-checks")],
)
def test_the_row_turns_when_its_mitigation_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, row: str
) -> None:
    assert status(measured(tmp_path), row) is ThreatStatus.MITIGATED
    accept_all: Callable[[object], None] = lambda path: None  # noqa: E731  # a reader that checks nothing
    monkeypatch.setattr(refusals, reader, accept_all)
    assert status(measured(tmp_path), row) is ThreatStatus.INEFFECTIVE


def test_the_hash_row_turns_when_digests_are_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(measured(tmp_path), "hash-verification") is ThreatStatus.MITIGATED
    monkeypatch.setattr(Store, "blob", lambda self, digest: b"")
    assert status(measured(tmp_path), "hash-verification") is ThreatStatus.INEFFECTIVE
