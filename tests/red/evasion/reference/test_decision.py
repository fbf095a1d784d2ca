"""HopSkipJump: labels only, queries counted, and the distance it reaches on linear models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm
from secure_ai.models.target import Target
from secure_ai.red.evasion.projections import distance

WORST_MEDIAN: dict[Norm, float] = {"l2": 1.1, "linf": 1.3}
"""Median ratio of the distance found to the smallest there is, after 1,500 queries in 64 dimensions."""


class LabelsOnly(nn.Module):
    """One-hot answers, without a gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.network(x.detach())
        return nn.functional.one_hot(answer.argmax(dim=1), answer.shape[1]).float()


@pytest.fixture
def labels_only(oracle: Any) -> Target:
    return Target(
        LabelsOnly(oracle.target.network), name="labels", digest="d" * 64, input_shape=(1, 8, 8), num_classes=5
    )


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_comes_near_the_smallest_distance_from_labels_alone(
    norm: Norm, oracle: Any, labels_only: Target, run: Any
) -> None:
    best = oracle.optimum(norm)
    x_adv = run("hopskipjump", labels_only, oracle.x, oracle.y, norm, float(best.median()), query_budget=1500)
    assert labels_only.passes.forward == 1500 * len(oracle.x)
    assert labels_only.passes.backward == 0
    found = distance(x_adv, oracle.x, norm)
    assert bool((oracle.target.predict(x_adv) != oracle.y).all())
    assert bool((found >= best * (1 - 1e-4)).all())
    assert float((found / best).median()) <= WORST_MEDIAN[norm]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_more_queries_never_lead_further(norm: Norm, oracle: Any, run: Any) -> None:
    found = [
        distance(run("hopskipjump", oracle.target, oracle.x, oracle.y, norm, 0.1, query_budget=q), oracle.x, norm)
        for q in (30, 200, 600)
    ]
    assert bool((found[1] <= found[0]).all())
    assert bool((found[2] <= found[1]).all())
    assert float(found[2].sum()) < float(found[0].sum())


def test_same_generator_same_result_and_other_samples_do_not_matter(oracle: Any, run: Any) -> None:
    arguments = ("hopskipjump", oracle.target, oracle.x, oracle.y, "l2", 0.1)
    first, again, other = (run(*arguments, query_budget=250, seed=seed) for seed in (5, 5, 6))
    some = torch.arange(len(oracle.x)) % 3 == 0
    part = run(*arguments, query_budget=250, active=some)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(part[some], first[some], atol=1e-4, rtol=0)


def test_without_minimize_samples_leave_within_eps(oracle: Any, run: Any) -> None:
    eps = 2 * float(oracle.optimum("l2").max())
    x_adv = run("hopskipjump", oracle.target, oracle.x, oracle.y, "l2", eps, query_budget=2000, minimize=False)
    assert oracle.target.passes.forward < 1000 * len(oracle.x)
    assert bool((distance(x_adv, oracle.x, "l2") <= eps).all())
    assert bool((oracle.target.predict(x_adv) != oracle.y).all())


def test_a_target_label_starts_from_an_image_of_that_class(oracle: Any, run: Any) -> None:
    present = oracle.y.unique()
    wanted = present[(torch.searchsorted(present, oracle.y) + 1) % len(present)]
    x_adv = run("hopskipjump", oracle.target, oracle.x, oracle.y, "l2", 0.1, target_label=wanted, query_budget=300)
    assert torch.equal(oracle.target.predict(x_adv), wanted)


def test_it_starts_from_the_nearest_image_of_another_class(oracle: Any, run: Any) -> None:
    x_adv = run("hopskipjump", oracle.target, oracle.x, oracle.y, "l2", 0.1, query_budget=1)
    away = torch.cdist(oracle.x.flatten(1), oracle.x.flatten(1))
    nearest = away.masked_fill(oracle.y[:, None] == oracle.y, torch.inf).argmin(dim=1)
    assert torch.equal(x_adv, oracle.x[nearest])


def test_it_walks_from_three_images_and_keeps_where_that_ends_nearest(oracle: Any, run: Any) -> None:
    found = [
        distance(run("hopskipjump", oracle.target, oracle.x, oracle.y, "l2", 0.1, query_budget=q), oracle.x, "l2")
        for q in (11, 22, 33)
    ]
    assert bool((found[1] < found[0]).any())
    assert bool((found[2] < found[1]).any())


def test_without_other_images_it_starts_from_noise(oracle: Any, run: Any) -> None:
    for x, y in zip(oracle.x.split(1), oracle.y.split(1), strict=True):
        x_adv = run("hopskipjump", oracle.target, x, y, "l2", 0.1, query_budget=300)
        assert bool(oracle.target.predict(x_adv) != y)


def test_without_a_start_it_stops_after_a_hundred_queries(stubborn: Callable[[int], Target], run: Any) -> None:
    target, x = stubborn(4), torch.rand((3, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    x_adv = run("hopskipjump", target, x, torch.zeros(3, dtype=torch.int64), "l2", 0.1)
    assert 3 <= target.passes.forward <= 300
    assert bool((x_adv != x).flatten(1).any(dim=1).all())
