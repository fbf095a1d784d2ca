"""Near copies are grouped, exactly and fast; images that are only alike are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from secure_ai.core.errors import EmptyDenominatorError
from secure_ai.core.results import of_effective, rate
from secure_ai.core.statistics import wilson
from secure_ai.data.near_copies import NEAR, effective_n, group_sizes


def drawn(n: int, shape: tuple[int, int, int] = (1, 28, 28), seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 1, (n, *shape)).astype(np.float32)


def by_hand(images: NDArray[np.float32], near: float) -> list[int]:
    """Every pair in float64, one after the other."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    contrast = [float(np.sqrt(((row - row.mean()) ** 2).sum())) for row in flat]
    leaders: list[int] = []
    sizes: list[int] = []
    for i, row in enumerate(flat):
        for place, j in enumerate(leaders):
            if np.sqrt(((row - flat[j]) ** 2).sum()) <= near * min(contrast[i], contrast[j]):
                sizes[place] += 1
                break
        else:
            leaders.append(i)
            sizes.append(1)
    return sizes


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 11, 7), (1, 1, 5), (1, 3, 3)])
def test_the_grouping_is_that_of_every_pair_by_hand(shape: tuple[int, int, int]) -> None:
    first = drawn(30, shape)
    noise = np.random.default_rng(1).normal(0, 1, (20, 30, *shape)) * np.linspace(0, 0.3, 20)[:, None, None, None, None]
    images = np.clip(first + noise, 0, 1).reshape(-1, *shape).astype(np.float32)
    for near in (0.05, NEAR, 0.6):
        assert sorted(group_sizes(images, near).tolist()) == sorted(by_hand(images, near))


def test_forty_images_with_one_other_pixel_are_worth_forty() -> None:
    first = np.repeat((255 * drawn(40)).astype(np.uint8), 25, axis=0)
    first[:, 0, 0, 0] = np.tile(np.arange(25), 40)
    assert len(np.unique(first.reshape(1000, -1), axis=0)) == 1000
    assert effective_n(first) == 40


def test_noise_and_brightness_make_no_new_sample_and_another_image_does() -> None:
    base = drawn(50)
    noisy = np.clip(base + np.random.default_rng(2).normal(0, 0.03, base.shape), 0, 1).astype(np.float32)
    brighter = np.clip(base * 0.95, 0, 1).astype(np.float32)
    assert effective_n(np.concatenate([base, noisy, brighter])) == 50
    assert effective_n(np.concatenate([base, drawn(100, seed=9)])) == 150


def test_one_image_many_times_among_others_is_worth_what_the_variance_says() -> None:
    """Kish: of 100 images 51 are one image; a share of the hundred varies as that of 100^2 / (51^2 + 49) images."""
    images = np.concatenate([np.repeat(drawn(1), 51, axis=0), drawn(49, seed=3)])
    assert effective_n(images) == 10_000 // (51**2 + 49)


def test_flat_images_are_near_only_where_they_are_equal() -> None:
    grey = np.linspace(0, 1, 5, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 4, 4), np.float32)
    assert effective_n(grey) == 5
    assert effective_n(np.concatenate([grey, grey])) == 5


def test_the_interval_is_that_of_the_independent_samples() -> None:
    found = of_effective(rate(125, 1000), 40, 1000)
    assert (found.value, found.n, found.successes, found.n_effective) == (0.125, 1000, 125, 40)
    assert (found.ci_low, found.ci_high) == wilson(5, 40)
    assert of_effective(rate(125, 1000), 1000, 1000) == rate(125, 1000)
    assert of_effective(rate(3, 10), 40, 1000).n_effective == 1
    for wrong in (0, 11):
        with pytest.raises(EmptyDenominatorError):
            rate(3, 10, wrong)
