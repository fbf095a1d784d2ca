"""Smoothing of a linear classifier, whose robust radius is known, and the bound that it rests on."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from secure_ai.blue.certify.smoothing import ABSTAIN, Smoothed, Smoothing, certify, votes
from secure_ai.core.errors import EmptyDenominatorError
from secure_ai.core.statistics import clopper_pearson_lower


class Half(nn.Module):
    """Class 1 where the first pixel is above 0.5: smoothed, it keeps its class up to exactly that distance."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, 0] - 0.5
        return torch.stack([-first, first], dim=1)


def image(first: float) -> Tensor:
    x = torch.zeros(1, 2, 2)
    x[0, 0, 0] = first
    return x


@pytest.mark.parametrize("first", [0.8, 0.9, 0.1])
def test_the_radius_of_a_half_space_is_its_distance(first: float) -> None:
    smoothing = Smoothing(sigma=0.25, count=20_000)
    label, radius = certify(Half(), image(first), 2, smoothing, 0)
    exact = abs(first - 0.5)
    assert label == int(first > 0.5)
    assert exact - 0.02 < radius <= exact


def test_on_the_boundary_it_abstains() -> None:
    assert certify(Half(), image(0.5), 2, Smoothing(sigma=0.25, count=2000), 0) == (ABSTAIN, 0.0)


def test_no_radius_is_larger_than_the_samples_allow() -> None:
    smoothing = Smoothing(sigma=0.5, count=1000)
    assert certify(Half(), image(100.0), 2, smoothing, 0)[1] == smoothing.largest_radius
    exact = 0.5 * NormalDist().inv_cdf(0.001 ** (1 / 1000))  # the bound where all samples agree
    assert smoothing.largest_radius == pytest.approx(exact, rel=1e-6)
    assert Smoothing(sigma=0.5, count=10_000).largest_radius == pytest.approx(1.60, abs=0.01)


def test_votes_are_those_of_the_noise_and_do_not_depend_on_the_batch() -> None:
    whole = votes(Half(), image(0.6), 2, 1000, Smoothing(sigma=0.25), 3)
    assert int(whole.sum()) == 1000
    assert float(whole[1]) / 1000 == pytest.approx(NormalDist().cdf(0.1 / 0.25), abs=0.05)
    assert torch.equal(whole, votes(Half(), image(0.6), 2, 1000, Smoothing(sigma=0.25), 3))
    assert not torch.equal(whole, votes(Half(), image(0.6), 2, 1000, Smoothing(sigma=0.25), 4))


def test_the_smoothed_network_has_the_mean_probability() -> None:
    network = Smoothed(Half(), Smoothing(sigma=0.25), 50, (1, 2, 2))
    x = torch.stack([image(0.2), image(0.7)])
    expected = torch.stack([Half()(one + network.get_buffer("noise")).softmax(dim=1).mean(dim=0) for one in x])
    assert torch.allclose(network(x).exp(), expected, atol=1e-6)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (5, 10), (99, 100), (100, 100)])
def test_clopper_pearson_is_the_exact_tail(successes: int, n: int) -> None:
    """At the bound, seeing so many successes or more has a chance of exactly alpha."""
    from scipy.special import bdtrc

    low = clopper_pearson_lower(successes, n, 0.01)
    assert 0 <= low <= successes / n
    if successes:
        assert float(bdtrc(successes - 1, n, low)) == pytest.approx(0.01, rel=1e-6)


def test_clopper_pearson_needs_samples() -> None:
    with pytest.raises(EmptyDenominatorError):
        clopper_pearson_lower(0, 0, 0.01)
