"""Filter, removal and scan at their edges: two classes, a hundred, and models that learned nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import secure_ai
from secure_ai.blue.backdoors import inversion, judgement, margin, removal
from secure_ai.blue.backdoors import repair as repairing
from secure_ai.blue.backdoors.detectors import DETECTORS
from secure_ai.data.source import load_data
from secure_ai.report.render import png
from secure_ai.runs.backdoors import fleet as fleets
from secure_ai.runs.verbs import backdoor_filter, backdoor_remove, backdoor_scan

SIZE, IMAGES = 6, 600
CODE = """import torch


def net():
    hidden = torch.nn.Linear(36, 16)
    return torch.nn.Sequential(torch.nn.Flatten(), hidden, torch.nn.ReLU(), torch.nn.Linear(16, CLASSES))
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(margin, "STEPS", 1)
    monkeypatch.setattr(repairing, "EPOCHS", 1)
    monkeypatch.setattr(backdoor_filter, "EPOCHS", 1)
    monkeypatch.setattr(backdoor_filter, "TRUSTED_EPOCHS", 1)
    monkeypatch.setattr(backdoor_remove, "LEAST_FLEET", 2)
    monkeypatch.setattr(png, "image_grid_png", lambda *given: b"")  # matplotlib takes longer than the filter
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=2))


def network(classes: int) -> torch.nn.Module:
    layers = torch.nn.Linear(SIZE * SIZE, 16), torch.nn.Linear(16, classes)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in layers:
            for value in layer.parameters():
                value.uniform_(-0.2, 0.2, generator=draws)
    return torch.nn.Sequential(torch.nn.Flatten(), layers[0], torch.nn.ReLU(), layers[1])


def images(path: Path, classes: int, seed: int = 0) -> str:
    """A random pattern a class, and noise."""
    patterns = np.random.default_rng(7).integers(30, 220, (classes, SIZE, SIZE))
    labels = np.arange(IMAGES) % classes
    noise = np.random.default_rng(seed).integers(-30, 30, (IMAGES, SIZE, SIZE))
    np.savez(path, x=(patterns[labels] + noise).astype(np.uint8), y=labels)
    return str(path)


@pytest.mark.parametrize("trusting", [True, False])
@pytest.mark.parametrize("classes", [2, 100])
def test_a_filter_takes_any_number_of_classes(classes: int, trusting: bool, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE.replace("CLASSES", str(classes)))
    data = images(tmp_path / "data.npz", classes)
    trusted = images(tmp_path / "trusted.npz", classes, seed=1) if trusting else None
    found = secure_ai.backdoor_filter(
        data, trusted=trusted, out=tmp_path / "out", arch=f"{tmp_path / 'net.py'}:net", device="cpu"
    )
    assert all(np.isfinite(scores).all() and scores.shape == (IMAGES,) for scores in found.scores.values())
    record = json.loads((tmp_path / "out" / "filter.json").read_text())
    cleaned = load_data(str(tmp_path / "out" / "cleaned.npz"))
    assert len(cleaned) == record["cleaned"]["n"] == IMAGES - record["suspicious"]
    if not trusting:
        assert record["suspicious"] == pytest.approx(backdoor_filter.FRACTION * IMAGES, abs=1)


@pytest.mark.parametrize("classes", [2, 100])
def test_a_removal_takes_any_number_of_classes(classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "MIN_FLEET", 2)
    monkeypatch.setattr(judgement, "_unlike", lambda evidence: "")  # nothing learns in so few steps
    monkeypatch.setattr(inversion, "SUCCESS", 0.0)  # nor does a search reach its goal
    out = tmp_path / "good.safetensors"
    done = secure_ai.backdoor_remove(
        network(classes), images(tmp_path / "data.npz", classes), out=out, fleet=3, device="cpu"
    )
    assert out.exists()
    assert set(done.tried) == set(removal.REMOVERS)
    assert done.chosen in done.tried
    assert 0 <= done.label < classes
    assert None not in (done.before.class_p, done.after.class_p)


def answering_one(classes: int) -> torch.nn.Module:
    """A network that gives every image the same class."""
    made = network(classes)
    with torch.no_grad():
        made.get_parameter("3.bias")[1] = 50.0
    return made


@pytest.mark.parametrize("learned_nothing", [network, answering_one])
def test_a_model_that_learned_nothing_cannot_be_compared(
    learned_nothing: Callable[[int], torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its accuracy alone decides; without that rule the scan would have a verdict."""
    draws = np.random.default_rng(0)
    widths = {name: 90 if row.paired else 10 for name, row in DETECTORS.items()}
    members = tuple(
        fleets.Member(i, 0.95, {name: draws.uniform(1, 2, width).tolist() for name, width in widths.items()})
        for i in range(40)
    )
    stand_ins = fleets.Fleet(members=members, source="stand-ins", training_images=8_000, asked=40)
    monkeypatch.setattr(backdoor_scan, "known_fleet", lambda arch, transform, data=None: stand_ins)
    monkeypatch.setattr(judgement, "_blind", lambda evidence: "")
    data = images(tmp_path / "data.npz", 10)
    scan = secure_ai.backdoor_scan(learned_nothing(10), data, device="cpu").scan
    assert (scan.verdict.value, scan.calibrated, scan.trigger) == ("inconclusive", None, None)
    assert scan.accuracy is not None
    assert scan.accuracy.bounds.value < 0.5
    monkeypatch.setattr(judgement, "_unlike", lambda evidence: "")
    assert secure_ai.backdoor_scan(learned_nothing(10), data, device="cpu").scan.verdict.value != "inconclusive"
