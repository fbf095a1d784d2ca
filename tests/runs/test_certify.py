from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secure_ai
from secure_ai.core.errors import ArchError, SecureAIError
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
    report = secure_ai.certify(bright(), few, norm="l2", eps=0.4, method="smoothing", sigma=0.2, samples=500)
    assert report.contradictions == 0
    assert 0 < report.certified.successes <= report.attacked.successes < report.clean.n
    said = report.as_json()
    assert said["sigma"] == 0.2
    assert said["certified_at"]["0"]["successes"] >= said["certified_at"]["0.25"]["successes"]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"norm": "l2"}, "--norm"),
        ({"method": "smoothing"}, "--norm"),
        ({"method": "magic"}, "--method"),
        ({"eps": 0}, "--eps"),
        ({"method": "smoothing", "norm": "l2", "samples": 10}, "--samples"),
        ({"method": "smoothing", "norm": "l2", "eps": 2.0, "sigma": 0.1}, "--eps"),
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
