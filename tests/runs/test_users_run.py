"""A run on the user's own network says what concerns it, in the user's words, and keeps what a stopped stage had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from secure_ai.report.sections import main_sections
from secure_ai.runs.engine.stage import Notice, Watcher, watch_nothing
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.verbs.run import RunResult, run

NET = """
import torch


def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
"""
SMALL = ["assess.attack=fgsm", "assess.eps=2/255", "assess.distance_n=4", "assess.distance_steps=2"]


def assessed(folder: Path, *changes: str, watcher: Watcher = watch_nothing) -> RunResult:
    (folder / "net.py").write_text(NET)
    x = np.random.default_rng(0).integers(0, 256, (300, 4, 4), dtype=np.uint8)
    np.savez(folder / "data.npz", x=x, y=np.arange(300) % 2)
    return run(
        model=ModelSpec(arch=f"{folder / 'net.py'}:build"), data=str(folder / "data.npz"), changes=[*SMALL, *changes],
        out=folder / "out", watcher=watcher,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return assessed(tmp_path_factory.mktemp("user"), "assess.curve=[0, 0.5, 1]")


def test_only_rows_of_the_register_that_apply_are_shown(finished: RunResult) -> None:
    assert finished.report.threats == ()
    assert not any("STRIDE" in text for text in finished.report.not_tested)
    assert not any(section.id.startswith("report/threats") for section in main_sections(finished.report))
    assert len((finished.folder / "threat_model.md").read_text()) < 200


def test_it_is_told_in_the_users_words(finished: RunResult) -> None:
    text = (finished.folder / "report.html").read_text()
    page = text[text.index("<body") :]
    assert "net.py:build" in page
    assert "linf 2/255" in page
    assert "published" not in page.lower()
    assert "headline claim" not in page
    assert "the subject" not in page
    budgets = {m.budget.eps_text for m in finished.report.measurements if m.budget}
    assert budgets == {"1/255", "2/255"}


@pytest.mark.parametrize(("point", "kept"), [(1, 0), (2, 1)])
def test_a_curve_that_is_stopped_keeps_the_points_that_were_finished(tmp_path: Path, point: int, kept: int) -> None:
    begun = 0

    def stop(notice: Notice) -> None:
        nonlocal begun
        if notice.stage == "assess/curve" and notice.kind == "phase" and notice.text.startswith("attacking"):
            begun += 1
        if begun == point and notice.kind == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assessed(tmp_path, "assess.curve=[0.5, 1]", watcher=stop)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    points = [entry["id"] for entry in report["measurements"] if entry["condition"] == "curve"]
    assert len(points) == kept
    assert report["run"]["complete"] is False
    assert {"subject/clean", "subject/attacked"} <= {entry["id"] for entry in report["measurements"]}
