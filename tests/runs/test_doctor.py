"""The verb `doctor`: what it looks at, and that it sees what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import secure_ai
from secure_ai.cli.main import run_command
from secure_ai.core.errors import EnvironmentFailedError
from secure_ai.files.sandbox.probe import SandboxReport
from secure_ai.runs.verbs import doctor as verb
from secure_ai.runs.verbs.doctor import Diagnosis, Examined

IDS = ["versions", "device", "precision", "threads", "mnist", "sandbox", "extra art"]


def one(diagnosis: Diagnosis, identifier: str) -> Examined:
    return next(found for found in diagnosis.examined if found.id == identifier)


def test_everything_is_looked_at_and_what_is_not_well_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    diagnosis = secure_ai.doctor()
    assert [found.id for found in diagnosis.examined] == IDS
    assert all(found.found for found in diagnosis.examined)
    assert [found.id for found in diagnosis.examined if found.status != "ok" and not found.todo] == []
    assert run_command(["doctor", "--json"]) == (0 if diagnosis.healthy else 3)
    document = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in document["checks"]] == IDS
    assert document["healthy"] is diagnosis.healthy


def test_what_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails() -> SandboxReport:
        raise EnvironmentFailedError("no child")

    monkeypatch.setattr(verb, "sandbox_report", fails)
    monkeypatch.setattr(verb, "versions", lambda: {"torch": "2.4.1", "numpy": "2.0"})
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verb, "EXTRAS", {"art": ("no_such_module", "attacks")})
    monkeypatch.setattr(verb, "_precision", lambda: Examined("precision", "ok", "float32"))
    diagnosis = verb.doctor()
    problems = {found.id for found in diagnosis.examined if found.status == "problem"}
    assert problems == {"versions", "threads", "sandbox"}
    assert one(diagnosis, "mnist").status == one(diagnosis, "extra art").status == "note"
    assert not diagnosis.healthy
    monkeypatch.setattr(verb, "versions", lambda: {"torch": "not installed"})
    assert one(verb.doctor(), "versions").status == "problem"
