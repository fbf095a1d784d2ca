"""Every command that reads images can resize them, and reads any of the three splits where it reads one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from secure_ai.cli.main import run_command
from secure_ai.core.errors import UsageError
from secure_ai.data.dataset import Dataset

COMMANDS = {
    "train": ["train", "--arch", "report1-cnn", "--split", "val"],
    "harden": ["harden", "--arch", "report1-cnn", "--norm", "linf", "--eps", "0.1"],
    "backdoor": ["backdoor", "plant", "--trigger", "pixel:place=0x0:value=1", "--target-label", "1", "--poison-rate",
                 "0.1", "--split", "val"],
    "backdoor_filter": ["backdoor", "filter", "--split", "val"],
    "backdoor_scan": ["backdoor", "scan", "--arch", "report1-cnn", "--split", "val"],
    "backdoor_remove": ["backdoor", "remove", "--arch", "report1-cnn", "--split", "val"],
}  # fmt: skip


@pytest.mark.parametrize("module", COMMANDS)
def test_resize_and_split_reach_the_loader(module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[dict[str, Any]] = []

    def load(text: str, **settings: Any) -> None:
        given.append(settings)
        raise UsageError("far enough", where=text)

    where = "secure_ai.runs.given_data" if module == "harden" else f"secure_ai.runs.verbs.{module}"
    monkeypatch.setattr(import_module(where), "load_data", load)
    words = [*COMMANDS[module], "--data", "mine.npz", "--resize", "32", "--out", str(tmp_path / "out"), "--quiet"]
    assert run_command(words) == 2
    assert given[0]["resize"] == 32
    assert given[0]["split"] == ("train" if module == "harden" else "val")


def test_trusted_images_are_resized_as_the_others_are(
    monkeypatch: pytest.MonkeyPatch, digits: Dataset, tmp_path: Path
) -> None:
    given: list[tuple[str, int | None]] = []

    def load(text: str, **settings: Any) -> Dataset:
        given.append((text, settings["resize"]))
        if text == "trusted.npz":
            raise UsageError("far enough", where=text)
        return digits

    monkeypatch.setattr("secure_ai.runs.verbs.backdoor_filter.load_data", load)
    words = ["backdoor", "filter", "--data", "a.npz", "--trusted", "trusted.npz", "--resize", "28", "--quiet"]
    assert run_command([*words, "--out", str(tmp_path / "out")]) == 2
    assert given == [("a.npz", 28), ("trusted.npz", 28)]
