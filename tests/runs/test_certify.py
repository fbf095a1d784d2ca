from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secure_ai
from secure_ai.cli.certify import _lines
from secure_ai.core.errors import ArchError, SecureAIError, TargetError, UsageError
from secure_ai.core.trust import CheckOutcome, Verdict
from secure_ai.data.dataset import Dataset
from secure_ai.runs.stages.certificates import CertifyMethod

QUICK: dict[str, Any] = {"attack": "pgd:steps=10", "norm": "linf"}

pytestmark = pytest.mark.usefixtures("smaller_probes")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Bright and dark images; how far from the middle differs."""
    level = np.linspace(20, 235, 60).astype(np.uint8)
    images = np.broadcast_to(level[:, None, None, None], (60, 1, 4, 4)).copy()
    return Dataset(images, (level > 127).astype(np.int64), "greys", 2)


def bright() -> nn.Sequential:
    """Class 1 where the mean pixel is above one half: its robust radius is known."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network.get_parameter("1.weight").copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 16))
        network.get_parameter("1.bias").copy_(torch.tensor([8.0, -8.0]))
    return network


@pytest.mark.parametrize(("method", "eps"), [("ibp", 0.05), ("crown-ibp", 0.2)])
def test_bounds_of_a_linear_network_equal_its_robust_accuracy(data: Dataset, method: CertifyMethod, eps: float) -> None:
    report = secure_ai.certify(bright(), data, eps=eps, method=method, **QUICK)
    far = int((np.abs(data.images[:, 0, 0, 0] / 255 - 0.5) > eps).sum())
    assert report.certified.successes == far
    assert report.attacked.successes == far
    assert report.contradictions == 0
    assert report.clean.successes == 60


def test_what_smoothing_certifies_withstands(data: Dataset) -> None:
    few = data.select(np.arange(0, 60, 6), "every sixth")
    report = secure_ai.certify(bright(), few, eps=0.4, method="smoothing", sigma=0.2, samples=500)
    assert report.contradictions == 0
    assert 0 < report.certified.successes <= report.attacked.successes < report.clean.n
    said = report.as_json()
    assert (said["sigma"], said["budget"]["norm"]) == (0.2, "l2")
    assert said["certified_at"]["0"]["successes"] >= said["certified_at"]["0.25"]["successes"]


def test_where_no_class_has_a_majority_smoothing_abstains_and_says_so(data: Dataset) -> None:
    """Noise moves the mean of 16 pixels by sigma / 4: one standard deviation from the middle 100 samples tell."""
    report = secure_ai.certify(bright(), data, **SMOOTHING)
    distance = np.abs(data.images[:, 0, 0, 0] / 255 - 0.5)
    said = report.as_json()["abstained"]
    near, nearer = (int((distance < z * 0.2 / 4).sum()) for z in (1.0, 0.2))
    assert 0 < nearer <= said["successes"] <= near
    assert said["n"] == 60
    assert report.clean.successes == 60 - said["successes"]
    (line,) = (line for line in _lines(report) if line.startswith("abstained"))
    assert f"{said['successes']} of 60" in line
    assert "abstained" not in secure_ai.certify(bright(), data, eps=0.05, **QUICK).as_json()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"norm": "l2"}, "--norm"),
        ({"method": "smoothing"}, "--norm"),
        ({"method": "magic"}, "--method"),
        ({"eps": 0}, "--eps"),
        ({"method": "smoothing", "norm": "l2", "samples": 10}, "--samples"),
        ({"sigma": 0.3}, "--sigma"),
        ({"samples": 10_000}, "--samples"),
        ({"method": "crown-ibp", "alpha": 0.001}, "--alpha"),
        ({"method": "smoothing", "norm": "l2", "eps": 2.0, "sigma": 0.1, "attack": None}, "--eps"),
    ],
)
def test_what_cannot_be_certified_is_refused(data: Dataset, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(SecureAIError) as refused:
        secure_ai.certify(bright(), data, **({"eps": 0.1} | QUICK | changes))
    assert refused.value.where == where


def test_a_layer_without_bounds_is_named(data: Dataset) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.GELU(), nn.Linear(4, 2))
    with pytest.raises(ArchError) as refused:
        secure_ai.certify(network, data, eps=0.1, **QUICK)
    assert refused.value.where == "2"


@pytest.mark.parametrize("more", [{"samples": 5000}, {"sigma": 0.4}])
def test_a_radius_out_of_reach_is_reached_with_either_of_what_the_hint_names(
    data: Dataset, more: dict[str, Any]
) -> None:
    few, asked = data.select(np.array([0, 59]), "two"), {"norm": "l2", "eps": 0.55, "method": "smoothing"}
    settings: dict[str, Any] = {**asked, "sigma": 0.2, "samples": 100}
    with pytest.raises(SecureAIError) as caught:
        secure_ai.certify(bright(), few, **settings)
    assert caught.value.hint == "more samples, or a larger sigma"
    assert secure_ai.certify(bright(), few, **{**settings, **more}).contradictions == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bounds_are_refused_for_coarse_arithmetic_and_hold_for_the_network_as_float(
    data: Dataset, dtype: torch.dtype
) -> None:
    network = bright().to(dtype)
    with pytest.raises(ArchError) as caught:
        secure_ai.certify(network, data, eps=0.05, **QUICK)
    assert ".float()" in caught.value.hint
    assert secure_ai.certify(network.float(), data, eps=0.05, **QUICK).contradictions == 0


class Steps(nn.Module):
    """Answers by a threshold: no gradient reaches the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, H, W)."""
        bright = (x.flatten(1).mean(dim=1) > 0.5).float()
        return self.scale * torch.stack([1 - bright, bright], dim=1)


class Together(Steps):
    """Answers by the mean of the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, H, W)."""
        level = x.flatten(1).mean(dim=1) - x.mean()
        return self.scale * torch.stack([-level, level], dim=1)


SMOOTHING: dict[str, Any] = {"norm": "l2", "eps": 0.3, "method": "smoothing", "sigma": 0.2, "samples": 100}


@pytest.mark.parametrize(("network", "blind"), [(Steps(), True), (bright(), False)])
def test_what_attacks_a_smoothed_classifier_is_never_reliable(data: Dataset, network: nn.Module, blind: bool) -> None:
    report = secure_ai.certify(network, data.select(np.arange(0, 60, 6), "few"), **SMOOTHING)
    failed = {made.id for made in report.trust.checks if made.outcome is CheckOutcome.FAIL}
    assert report.trust.verdict is Verdict.DOUBTFUL
    assert "suite-strength" in failed
    assert ("input-gradient" in failed) == blind


def test_a_network_that_looks_at_the_batch_is_not_smoothed(data: Dataset) -> None:
    with pytest.raises(TargetError) as caught:
        secure_ai.certify(Together(), data, **SMOOTHING)
    assert caught.value.where == "batch-independent"


def test_smoothing_takes_no_attack(data: Dataset) -> None:
    with pytest.raises(UsageError) as caught:
        secure_ai.certify(bright(), data, **SMOOTHING, attack="fast")
    assert caught.value.where == "--attack"
