"""The transfer matrix, the median distance and the law of the curve, on networks whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.core.budget import Norm
from secure_ai.core.comparisons import Distance
from secure_ai.core.result import Result
from secure_ai.core.trust import CheckOutcome, Verdict
from secure_ai.data.dataset import Dataset
from secure_ai.files.npy import NpyLimits, read_npz
from secure_ai.files.open import FileBytes
from secure_ai.models.preflight.preflight import Preflight, examine
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.trust.judged import monotone_check
from secure_ai.runs.engine.measure import Context
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.distance import DistanceSettings, median_distance
from secure_ai.runs.stages.gallery import spread_over_classes
from secure_ai.runs.stages.transfer import TransferSettings, transfer_matrix

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


@dataclass(frozen=True)
class Known:
    """A subject whose network is at hand."""

    id: str
    network: nn.Module

    @property
    def artifact(self) -> bytes:
        raise NotImplementedError

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def output(self, name: str) -> bytes:
        raise NotImplementedError

    def target(self) -> NetworkTarget:
        return NetworkTarget(self.network, name=self.id, digest=self.id[0] * 64, input_shape=(1, 8, 8), num_classes=2)

    def checked(self, data: Dataset) -> Preflight:
        return examine(self.target(), data, 1)

    def twin(self) -> Subject:
        raise NotImplementedError


@pytest.fixture(scope="module")
def images() -> Dataset:
    """Every image 0.05 (linf) away from being misclassified, by each half alone; labels by turns."""
    labels = np.arange(N) % 2
    x = np.full((N, 1, 8, 8), 0.5, dtype=np.float32) + np.where(labels == 1, OPTIMUM, -OPTIMUM)[:, None, None, None]
    return Dataset(x.astype(np.float32), labels.astype(np.int64), "halves", 2)


UPPER, LOWER = slice(0, 4), slice(4, 8)


def matrix_of(steps: int, pictures: tuple[tuple[str, str, tuple[str, ...]], ...] = ()) -> TransferSettings:
    return TransferSettings(id="x/matrix", norm="linf", eps=0.07, n=N, steps=steps, pictures=pictures)


def test_examples_fool_the_networks_that_look_where_they_were_changed(
    images: Dataset, context_on: Callable[..., Context]
) -> None:
    networks = {"a": Half(UPPER), "b": Half(LOWER), "c": Half(slice(0, 8))}
    subjects = {name: Known(name, network) for name, network in networks.items()}
    found = transfer_matrix(subjects, matrix_of(20), context_on(images, seed=3))
    (entry,) = found.transfers
    assert (entry.id, entry.networks, entry.n) == ("x/matrix", ("a", "b", "c"), N)
    rates = np.array([[rate.value for rate in row] for row in entry.rates])
    assert rates[0, 0] == rates[1, 1] == rates[2, 2] == 0.0  # each falls for its own
    assert rates[0, 1] == rates[1, 0] == 1.0  # what changes the one half alone does not reach the other
    assert rates[2, 0] == rates[2, 1] == 0.0  # what changes both halves reaches each
    assert [(m.id, m.made_for) for m in found.measurements][:2] == [("b/from/a", "a"), ("c/from/a", "a")]
    assert len(found.measurements) == 6
    for measured in found.measurements:
        assert measured.metric == "transfer_accuracy"
        assert measured.trust is not None
        assert measured.trust.verdict is Verdict.BROKEN
        failed = {check.id for check in measured.trust.checks if check.outcome is CheckOutcome.FAIL}
        assert "made-for-another-network" in failed
        assert measured.value.n == N


def test_the_matrix_is_the_same_again_and_brings_its_pictures(
    images: Dataset, context_on: Callable[..., Context]
) -> None:
    settings = matrix_of(3, (("picture", "a title", ("b", "a")),))

    def outputs() -> tuple[Result, dict[str, bytes]]:
        kept: dict[str, bytes] = {}
        subjects = {"a": Known("a", Half(UPPER)), "b": Known("b", Half(LOWER))}
        return transfer_matrix(subjects, settings, context_on(images, seed=3, kept=kept)), kept

    found, kept = outputs()
    assert (found, kept) == outputs()
    arrays = read_npz(FileBytes("arrays.npz", kept["arrays.npz"]), limits=NpyLimits())
    (picture,) = found.pictures
    assert (picture.id, picture.kind, picture.labels) == ("picture", "examples", ("b", "a"))
    assert set(picture.arrays) == set(arrays)
    first = {name.removeprefix("picture-0-"): array for name, array in arrays.items() if "-0-" in name}
    assert first["label"].tolist() == first["clean_label"].tolist()
    assert first["label"].tolist() != first["adv_label"].tolist()
    assert len(first["index"]) == len(first["clean"]) == 8


@pytest.fixture
def distance(context_on: Callable[..., Context]) -> Callable[..., Distance]:
    def measured(network: nn.Module, data: Dataset, norm: Norm, steps: int) -> Distance:
        settings = DistanceSettings(norm=norm, steps=steps, n=N)
        (found,) = median_distance(Known("net", network), settings, context_on(data, seed=1)).distances
        return found

    return measured


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_median_distance_is_the_known_one(images: Dataset, distance: Callable[..., Distance], norm: Norm) -> None:
    expected = {"linf": OPTIMUM, "l2": OPTIMUM * 32**0.5}[norm]
    found = distance(Half(UPPER), images, norm, 60)
    assert found.median is not None
    assert found.ci_low is not None
    assert found.median == pytest.approx(expected, rel=0.05)
    assert expected <= found.ci_low * 1.0001 <= found.median * 1.0001
    assert found.found.successes == N
    assert found.infinite == ""
    assert failed(found) == {"sample-size", "suite-strength", "distinct-images"}


def failed(found: Distance) -> set[str]:
    assert found.trust is not None
    return {made.id for made in found.trust.checks if made.outcome is CheckOutcome.FAIL}


class Fixed(nn.Module):
    """Always answers 1, and can never be moved."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros(len(x)), torch.ones(len(x))], dim=1) + 0 * x.flatten(1).sum(dim=1)[:, None]


def test_a_failure_is_infinite_and_a_clean_error_is_zero(images: Dataset, distance: Callable[..., Distance]) -> None:
    """Half of the images are wrong as they are, the others cannot be broken."""
    found = distance(Fixed(), images, "linf", 5)
    assert found.trust is not None
    assert found.trust.verdict is Verdict.DOUBTFUL
    assert {"unbounded-distance", "zero-gradients", "attempts-moved", "clean-accuracy"} <= failed(found)
    assert found.clean_errors == N // 2
    assert found.found.successes == N // 2
    assert found.median is None
    assert found.ci_low == 0.0
    assert found.infinite


def flags(right: int) -> np.ndarray:
    return np.arange(100) < right


def test_a_curve_that_rises_beyond_chance_fails_its_check() -> None:
    assert monotone_check(flags(90), flags(40)).outcome is CheckOutcome.PASS
    assert monotone_check(flags(90), flags(92)).outcome is CheckOutcome.PASS
    assert monotone_check(flags(40), flags(60)).outcome is CheckOutcome.FAIL


def test_samples_for_a_picture_are_chosen_by_label_and_position() -> None:
    labels = np.array([3, 3, 1, 1, 0, 3, 2])
    allowed = np.array([False, True, True, True, True, True, False])
    assert spread_over_classes(labels, allowed, 3).tolist() == [1, 2, 4]
    assert spread_over_classes(labels, allowed, 8).tolist() == [1, 2, 3, 4, 5]
    assert spread_over_classes(labels, np.zeros(7, dtype=bool)).tolist() == []
