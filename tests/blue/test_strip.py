"""STRIP on a network whose trigger overrides everything: triggered inputs are refused, clean ones seldom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.blue.guards.strip import laid_over, strip_guard
from secure_ai.core.errors import EmptyDataError, UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.models.target.target import NetworkTarget

TRIGGER = parse_trigger("patch:size=3:place=0x0:value=1")


class Patterned(nn.Module):
    """Nearest mean of the clean classes; with `planted`, a bright corner overrides it."""

    def __init__(self, data: Dataset, planted: float) -> None:
        super().__init__()
        x = torch.from_numpy(data.images.copy()).flatten(1).float() / 255
        means = torch.stack([x[torch.from_numpy(data.labels == k)].mean(dim=0) for k in range(data.classes)])
        self.weight, self.bias = nn.Parameter(means.T), nn.Parameter(-0.5 * (means**2).sum(dim=1))
        self.planted = planted

    def forward(self, x: Tensor) -> Tensor:
        logits = (x.flatten(1) @ self.weight + self.bias) / 20
        lit = (x[:, 0, :3, :3].mean(dim=(1, 2)) > 0.99).float()
        corner = torch.zeros_like(logits)
        corner[:, 5] = self.planted * lit
        return logits + corner


def target_of(data: Dataset, planted: float) -> NetworkTarget:
    return NetworkTarget(
        Patterned(data, planted).eval(), name="n", digest="", input_shape=data.input_shape, num_classes=10
    )


def without_corner(data: Dataset) -> np.ndarray:
    images = data.images.copy()
    images[:, :, :3, :3] = 0
    return images


def test_triggered_inputs_are_refused_and_clean_ones_are_not(digits: Dataset, digits_test: Dataset) -> None:
    clean, x = without_corner(digits), without_corner(digits_test)[:80]
    guard = strip_guard(target_of(digits, planted=50), clean[:300], false_refusals=0.05, seed=0)
    benign, triggered = guard(x), guard(stamp(x, TRIGGER))
    assert triggered.refused.all()
    assert benign.refused.mean() <= 0.2
    assert np.array_equal(benign.x, x)
    assert benign.score[~benign.refused].max() < triggered.score.min()


def test_without_a_backdoor_the_trigger_changes_nothing(digits: Dataset, digits_test: Dataset) -> None:
    clean, x = without_corner(digits), without_corner(digits_test)[:80]
    guard = strip_guard(target_of(digits, planted=0), clean[:300], false_refusals=0.05, seed=0)
    assert guard(stamp(x, TRIGGER)).refused.mean() <= 0.2


def test_more_images_are_laid_over_dark_ones() -> None:
    """A mean of 0.13 is that of digits; three of those stay below 0.5. Black images have no limit of their own."""
    means = {0.0: (4, 1.0), 0.13: (2, 1.0), 0.2: (1, 1.0), 0.3125: (1, 0.6), 0.5: (1, 0.5), 1.0: (1, 0.5)}
    found = {mean: laid_over(torch.full((2, 1, 3, 3), mean)) for mean in means}
    assert {mean: (count, round(weight, 5)) for mean, (count, weight) in found.items()} == means


def test_bad_requests_are_refused(digits: Dataset) -> None:
    target = target_of(digits, planted=0)
    for rate in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError):
            strip_guard(target, digits.images, false_refusals=rate, seed=0)
    with pytest.raises(EmptyDataError):
        strip_guard(target, digits.images[:100], false_refusals=0.01, seed=0)
