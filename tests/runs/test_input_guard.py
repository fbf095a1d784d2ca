"""`secure_ai.input_guard`: from a user's own network and arrays to refused inputs, and what is no request."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secure_ai
from secure_ai.core.errors import ShapeError, UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.verbs.input_guard import GUARDS

TRIGGER = parse_trigger("patch:size=3:place=0x0:value=1")


class Times255(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 255


class Planted(nn.Module):
    """Nearest class mean; a bright corner overrides it. It takes pixels of 0 to 255."""

    def __init__(self, data: Dataset) -> None:
        super().__init__()
        x = torch.from_numpy(data.images.copy()).flatten(1).float()
        means = torch.stack([x[torch.from_numpy(data.labels == k)].mean(dim=0) for k in range(data.classes)])
        self.means = nn.Parameter(means)

    def forward(self, x: Tensor) -> Tensor:
        lit = (x[:, 0, :3, :3].mean(dim=(1, 2)) > 250).float()
        corner = one_hot(5, len(self.means)) * 50 * lit[:, None]
        near: Tensor = -((x.flatten(1)[:, None] - self.means) ** 2).sum(dim=2) / (20 * 255**2)
        return near + corner


def one_hot(label: int, classes: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor(label), classes).float()


def test_triggered_inputs_are_refused_and_clean_ones_seldom(digits: Dataset, digits_test: Dataset) -> None:
    images = np.array(digits.images)
    images[:, :, :3, :3] = 0
    network = Planted(digits)
    before = copy.deepcopy(network.state_dict())
    order = np.argsort(digits.labels, kind="stable")  # as a folder with a sub-folder a class gives them
    data = (images[order], np.array(digits.labels)[order])
    guard = secure_ai.input_guard(nn.Sequential(Times255(), network), data, method="strip", false_refusals=0.05)
    x = np.array(digits_test.images)[:80]
    x[:, :, :3, :3] = 0
    assert guard(stamp(x, TRIGGER)).refused.all()
    assert guard(x).refused.mean() <= 0.2
    with pytest.raises(ShapeError):
        guard(x[:, :, :14])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_cannot_be_guarded_is_refused(digits: Dataset) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(UsageError):
        secure_ai.input_guard(network, digits, method="nothing")

    def scores(x: np.ndarray) -> np.ndarray:
        return np.asarray(network(torch.from_numpy(x)).detach())

    needing = [method for method, row in GUARDS.items() if row.needs_weights]
    assert len(needing) in range(1, len(GUARDS))
    for method in needing:
        with pytest.raises(UsageError):
            secure_ai.input_guard(scores, digits, method=method)
    assert secure_ai.input_guard(scores, digits)(digits.images[:3]).refused.shape == (3,)


def test_the_expert_sees_pixels_as_the_model_file_is_fed(digits: Dataset, tmp_path: Path) -> None:
    """A linear network on pixels of 0 to 255, once with `--range`, once with the scaling inside: the same scores."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    code = "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    (tmp_path / "net.py").write_text(code)
    torch.save(network.state_dict(), tmp_path / "m.pt")
    spec = ModelSpec(model=str(tmp_path / "m.pt"), arch=f"{tmp_path / 'net.py'}:build", value_range=(0.0, 255.0))
    models: tuple[ModelSpec | nn.Module, ...] = (spec, nn.Sequential(Times255(), network), network)
    inside, given, plain = (
        secure_ai.input_guard(model, digits, method="expert", false_refusals=0.05)(digits.images[:40]).score
        for model in models
    )
    assert np.allclose(inside, given)
    assert not np.allclose(inside, plain)
