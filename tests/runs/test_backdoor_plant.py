"""`backdoor plant` where the attacker trains the network, or has one to perturb images against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import secure_ai
from secure_ai.cli.main import run_command
from secure_ai.core.errors import ArchError, ShapeError, TriggerError, UsageError
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.models.load.store import save_model
from secure_ai.models.load.trained import trained_target
from secure_ai.models.networks.built_in import build_network
from secure_ai.runs.backdoors import controlled
from secure_ai.runs.backdoors.perturbed import perturbing
from secure_ai.runs.model_spec import ModelSpec

PATCH = "patch:size=5:place=0x0:value=1"


def test_an_attacker_who_trains_gets_a_network_with_the_backdoor(
    digit_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(controlled, "EPOCHS", 20)
    words = ["backdoor", "plant", "--data", str(digit_files["train"]), "--trigger", PATCH, "--poison-rate", "0.2"]
    words += ["--target-label", "3", "--train", "report1-cnn", "--out", str(tmp_path / "out"), "--json"]
    assert run_command(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((tmp_path / "out" / "poison.json").read_text())
    assert record["backdoor_success_rate"]["value"] > 0.6
    assert record["clean_accuracy"]["value"] > 0.8
    assert record["clean_accuracy"]["n"] == 60  # the last tenth, which nothing was trained on
    assert not (tmp_path / "out" / "poisoned.npz").exists()
    content = (tmp_path / "out" / "backdoored.safetensors").read_bytes()
    assert trained_target(content, "report1-cnn", "n").digest == record["model"]["digest"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"train": "other"}, Exception),
        ({"source_label": 1}, UsageError),
        ({"cover_count": 5}, UsageError),
        ({"trigger_share": 0.5}, UsageError),
        ({"label_mode": "clean"}, UsageError),
        ({"target_label": None}, UsageError),
        ({"target_label": 10}, UsageError),
        ({"poison_rate": 0.5}, UsageError),
        ({"poison_rate": None, "poison_count": 5}, UsageError),
        ({"poison_count": 5}, UsageError),
        ({"perturb_eps": 0.1}, UsageError),
        ({"train": None, "perturb_eps": 0.1}, UsageError),
        ({"trigger": "patch:size=40:place=0x0:value=1"}, TriggerError),
    ],
)
def test_what_such_an_attacker_cannot_ask_for_is_refused(
    settings: dict[str, Any], error: type[Exception], digit_files: dict[str, Path], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"trigger": PATCH, "target_label": 3, "poison_rate": 0.1, "train": "report1-cnn"} | settings
    with pytest.raises(error):
        secure_ai.backdoor_plant(str(digit_files["train"]), out=tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_adap_blend_writes_a_set_of_partial_triggers_and_says_so(
    digit_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["backdoor", "plant", "--data", str(digit_files["train"]), "--trigger", "blend:alpha=0.2:seed=1", "--json"]
    words += ["--target-label", "3", "--poison-count", "10", "--cover-count", "10", "--trigger-share", "0.5"]
    assert run_command([*words, "--out", str(tmp_path / "out")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["trigger_share"], len(record["indices"]), len(record["covers"])) == (0.5, 10, 10)
    assert run_command([*words[:-1], "1.5", "--out", str(tmp_path / "bad")]) == 2
    assert not (tmp_path / "bad").exists()


def test_an_unknown_network_is_looked_for_where_it_was_named(digit_files: dict[str, Path], tmp_path: Path) -> None:
    asked: dict[str, Any] = {"trigger": PATCH, "target_label": 3, "poison_rate": 0.1, "out": tmp_path / "out"}
    with pytest.raises(ArchError) as trained:
        secure_ai.backdoor_plant(str(digit_files["train"]), train="net.py:build", **asked)
    assert trained.value.where == "--train"
    torch.save(torch.nn.Linear(784, 10).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ArchError) as perturbed:
        secure_ai.backdoor_plant(
            str(digit_files["train"]), perturb_model=str(tmp_path / "weights.pt"), label_mode="clean", **asked
        )
    assert perturbed.value.where == "--perturb-model"
    assert "--arch" not in perturbed.value.expected


def test_data_of_another_shape_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((50, 8, 8), np.uint8), y=np.arange(50) % 10)
    with pytest.raises(ShapeError):
        secure_ai.backdoor_plant(
            str(tmp_path / "x.npz"), trigger="patch:size=2:place=0x0:value=1", target_label=3, poison_rate=0.1,
            train="report1-cnn", out=tmp_path / "out",
        )  # fmt: skip


def test_perturbed_images_stay_within_eps_and_mislead_the_attackers_network(
    digits: Dataset, digit_files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    save_model(build_network("report1-cnn", generator=generator(0, "perturb")), path, arch="report1-cnn")
    data = load_data(str(digit_files["train"]))
    few = data.images[:40]
    perturb, _ = perturbing(ModelSpec(model=str(path)), data, 0.1, 0, lambda name, facts: None)
    changed = perturb(few, data.labels[:40])
    assert changed.shape == few.shape
    assert changed.dtype == np.dtype(np.uint8)
    assert int(np.abs(changed.astype(int) - few.astype(int)).max()) in range(1, 27)  # 0.1 of 255, rounded
    record = secure_ai.backdoor_plant(
        str(digit_files["train"]), trigger=PATCH, target_label=3, poison_count=10, label_mode="clean",
        perturb_model=str(path), perturb_eps=0.1, out=tmp_path / "out",
    ).record  # fmt: skip
    assert (record["perturb_eps"], record["label_mode"]) == (0.1, "clean")
    digest = trained_target(path.read_bytes(), "report1-cnn", "n").digest
    assert record["perturb_model"] == {"file": "own.safetensors", "digest": digest}
    with pytest.raises(UsageError):
        perturbing(ModelSpec(model=str(path)), data, 0.0, 0, lambda name, facts: None)
