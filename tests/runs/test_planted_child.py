"""The process that measures a planted trigger imports nothing from the current folder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from secure_ai.core.errors import ChildFailedError
from secure_ai.runs.backdoors.planted import measured_apart


def test_a_module_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flags of the real command, with `platform` in place of the module, which would take seconds."""
    (tmp_path / "platform.py").write_text("open('ran', 'w')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    real = subprocess.run

    def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        return real([*words[: words.index("-m")], "-m", "platform"], **options)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ChildFailedError):
        measured_apart({}, {}, "", 0)
    assert not (tmp_path / "ran").exists()
