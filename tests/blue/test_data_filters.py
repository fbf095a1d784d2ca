"""Data filters on features whose poisoned part is known, and on clean ones, where no score stands out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secure_ai.blue.backdoors.data_filters import FILTERS, Evidence, filter_scores
from secure_ai.core.errors import EmptyDataError, ShapeError

N, F, POISONED = 400, 12, 24


def evidence(shift: float, seed: int = 0) -> tuple[Evidence, np.ndarray]:
    """Two classes of random features; POISONED images of class 1 lie `shift` deviations off, with a lit corner."""
    random = np.random.default_rng(seed)
    labels = np.arange(N, dtype=np.int64) % 2
    poisoned = np.zeros(N, dtype=bool)
    poisoned[np.flatnonzero(labels == 1)[:POISONED]] = True
    features = random.normal(size=(N, F)) + 5 * labels[:, None]
    features[poisoned, 0] += shift
    images = np.zeros((N, 1, 6, 6))
    images[:, :, 2:5, 2:5] = random.uniform(0.3, 1, (N, 1, 3, 3))
    trusted = images[~poisoned][:100].copy()
    images[poisoned, :, 0, 0] = 1.0 if shift else 0.0
    losses = random.uniform(0, 0.3, N) + poisoned * shift
    return Evidence(images, labels, features, losses, trusted), poisoned


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    above = scores[positive][:, None] - scores[~positive][None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_finds_what_was_planted_and_nothing_where_nothing_is(name: str) -> None:
    planted, poisoned = evidence(shift=9.0)
    assert auroc(filter_scores(planted)[name], poisoned) > 0.95
    clean, same = evidence(shift=0.0)
    assert 0.3 < auroc(filter_scores(clean)[name], same) < 0.7


@pytest.mark.parametrize("name", FILTERS)
def test_scores_do_not_depend_on_the_order_of_the_images(name: str) -> None:
    planted, _ = evidence(shift=9.0)
    order = np.random.default_rng(1).permutation(N)
    assert planted.losses is not None
    shuffled = replace(
        planted, images=planted.images[order], labels=planted.labels[order], features=planted.features[order],
        losses=planted.losses[order],
    )  # fmt: skip
    assert np.allclose(filter_scores(planted)[name][order], filter_scores(shuffled)[name])


def test_without_trusted_images_their_filters_are_left_out() -> None:
    planted, _ = evidence(shift=9.0)
    assert set(filter_scores(planted)) == set(FILTERS)
    bare = replace(planted, losses=None, trusted=None)
    assert set(filter_scores(bare)) == {name for name, row in FILTERS.items() if not row.needs_trusted}
    for name in ("trusted-loss", "pixel-support"):
        with pytest.raises(EmptyDataError):
            FILTERS[name].score(bare)
    with pytest.raises(ShapeError):
        FILTERS["pixel-support"].score(replace(planted, trusted=np.zeros((5, 1, 4, 4))))


@pytest.mark.parametrize("name", ["spectre", "activation-clustering", "spectral-signatures"])
def test_small_and_degenerate_classes_score_without_error(name: str) -> None:
    labels = np.array([0] * 20 + [1, 1] + [2])
    features = np.zeros((23, F))
    features[:20] = 1.0  # all alike
    scores = FILTERS[name].score(Evidence(np.zeros((23, 1, 2, 2)), labels, features))
    assert np.isfinite(scores).all()
    assert (scores[20:] == 0).all()
