"""The transfer matrix, the median distance and the law of the curve, on networks whose answers are known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.trust import CheckOutcome
from secure_ai.data.dataset import Dataset
from secure_ai.files.npy import NpyLimits, read_npz
from secure_ai.files.open import FileBytes
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.trust.judged import monotone_check
from secure_ai.runs.stages.distances import minimum_distances
from secure_ai.runs.stages.gallery import spread_over_classes
from secure_ai.runs.stages.transfers import matrix

N = 60
OPTIMUM = 0.05


class Half(nn.Module):
    """Two classes by the sign of the mean of one half of the image, minus one half."""

    def __init__(self, rows: slice) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = x[:, 0, self.rows].flatten(1).mean(dim=1) - 0.5
        return torch.stack([-score, score], dim=1)


def target(network: nn.Module, name: str) -> NetworkTarget:
    return NetworkTarget(network, name=name, digest=name[0] * 64, input_shape=(1, 8, 8), num_classes=2)


@pytest.fixture(scope="module")
def images() -> Dataset:
    """Every image 0.05 (linf) away from being misclassified, by each half alone; labels by turns."""
    labels = np.arange(N) % 2
    x = np.full((N, 1, 8, 8), 0.5, dtype=np.float32) + np.where(labels == 1, OPTIMUM, -OPTIMUM)[:, None, None, None]
    return Dataset(x.astype(np.float32), labels.astype(np.int64), "halves", 2)


UPPER, LOWER = slice(0, 4), slice(4, 8)


def test_examples_fool_the_networks_that_look_where_they_were_changed(images: Dataset) -> None:
    networks = {"a": Half(UPPER), "b": Half(LOWER), "c": Half(slice(0, 8))}
    targets = {name: target(network, name) for name, network in networks.items()}
    found = matrix(targets, images, PerturbationBudget("linf", 0.07), 20, 3, "x/matrix", lambda done, total: None)
    rates = np.array([[rate["value"] for rate in row] for row in found.content["transfers"][0]["rates"]])
    assert rates[0, 0] == rates[1, 1] == rates[2, 2] == 0.0  # each falls for its own
    assert rates[0, 1] == rates[1, 0] == 1.0  # what changes the one half alone does not reach the other
    assert rates[2, 0] == rates[2, 1] == 0.0  # what changes both halves reaches each
    assert [entry["id"] for entry in found.content["measurements"]][:2] == ["b/from/a", "c/from/a"]
    assert len(found.content["measurements"]) == 6
    for entry in found.content["measurements"]:
        assert entry["metric"] == "transfer_accuracy"
        assert entry["trust"]["verdict"] == "broken"
        failed = {check["id"] for check in entry["trust"]["checks"] if check["outcome"] == "fail"}
        assert "made-for-another-network" in failed
        assert entry["value"]["n"] == N


def test_the_matrix_is_the_same_again_and_brings_its_pictures(images: Dataset) -> None:
    def outputs() -> dict[str, bytes]:
        targets = {"a": target(Half(UPPER), "a"), "b": target(Half(LOWER), "b")}
        budget = PerturbationBudget("linf", 0.07)
        return matrix(targets, images, budget, 3, 3, "x/matrix", lambda done, total: None).outputs()

    first = outputs()
    assert first == outputs()
    arrays = read_npz(FileBytes("gallery.npz", first["gallery.npz"]), limits=NpyLimits())
    assert sorted(arrays) == ["clean-0", "clean-1", "x_adv-0", "x_adv-1"]
    (group, _) = json.loads(first["result.json"])["galleries"]
    assert group["labels"] == [answer["label"] for answer in group["clean"]]
    assert group["labels"] != [answer["label"] for answer in group["adversarial"]]
    assert len(group["index"]) == len(arrays["clean-0"]) == 8


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_median_distance_is_the_known_one(images: Dataset, norm: str) -> None:
    expected = {"linf": OPTIMUM, "l2": OPTIMUM * 32**0.5}[norm]
    network = target(Half(UPPER), "a")
    checked = examine(network, images, 1)
    found = minimum_distances(checked, images, norm, 60, 1, lambda done, total: None)  # type: ignore[arg-type]
    assert found["median"] == pytest.approx(expected, rel=0.05)
    assert expected <= found["ci_low"] * 1.0001 <= found["median"] * 1.0001
    assert found["found"]["successes"] == N
    assert found["infinite"] == ""
    assert failed(found) == {"sample-size", "suite-strength", "distinct-images"}


def failed(found: dict[str, Any]) -> set[str]:
    return {made["id"] for made in found["trust"]["checks"] if made["outcome"] == "fail"}


class Fixed(nn.Module):
    """Right on the first `right` images of a data set in which the mean tells, and never to be moved."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros(len(x)), torch.ones(len(x))], dim=1) + 0 * x.flatten(1).sum(dim=1)[:, None]


def test_a_failure_is_infinite_and_a_clean_error_is_zero(images: Dataset) -> None:
    """The network always answers 1: half of the images are wrong as they are, the others cannot be broken."""
    found = minimum_distances(examine(target(Fixed(), "f"), images, 1), images, "linf", 5, 1, lambda done, total: None)
    assert found["trust"]["verdict"] == "doubtful"
    assert {"unbounded-distance", "zero-gradients", "attempts-moved", "clean-accuracy"} <= failed(found)
    assert found["clean_errors"] == N // 2
    assert found["found"]["successes"] == N // 2
    assert found["median"] is None
    assert found["ci_low"] == 0.0
    assert found["infinite"].startswith("the median is infinite")


def flags(right: int) -> np.ndarray:
    return np.arange(100) < right


def test_a_curve_that_rises_beyond_chance_fails_its_check() -> None:
    assert monotone_check(flags(90), flags(40)).outcome is CheckOutcome.PASS
    assert monotone_check(flags(90), flags(92)).outcome is CheckOutcome.PASS
    failed = monotone_check(flags(40), flags(60))
    assert failed.outcome is CheckOutcome.FAIL
    assert failed.evidence.startswith("20 of 100 samples broken at a smaller eps were not broken again")


def test_samples_for_a_picture_are_chosen_by_label_and_position() -> None:
    labels = np.array([3, 3, 1, 1, 0, 3, 2])
    allowed = np.array([False, True, True, True, True, True, False])
    assert spread_over_classes(labels, allowed, 3).tolist() == [1, 2, 4]
    assert spread_over_classes(labels, allowed, 8).tolist() == [1, 2, 3, 4, 5]
    assert spread_over_classes(labels, np.zeros(7, dtype=bool)).tolist() == []
