"""HopSkipJump: labels only, queries counted, and the distance it reaches on linear models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks import hopskipjump as decision
from secure_ai.red.evasion.math.active_set import Best
from secure_ai.red.evasion.math.projections import distance

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
def labels_only(oracle: Any) -> NetworkTarget:
    return NetworkTarget(
        LabelsOnly(oracle.target.network), name="labels", digest="d" * 64, input_shape=(1, 8, 8), num_classes=5
    )


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_comes_near_the_smallest_distance_from_labels_alone(
    norm: Norm, oracle: Any, labels_only: NetworkTarget, run: Any
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


def walked(oracle: Any, index: int, start: Tensor) -> float:
    """How far from a sample ten halvings of the way from `start` end, which is a success."""
    x, label = oracle.x[index], int(oracle.y[index])
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        success = int(oracle.target.predict((x + middle * (start - x))[None])) != label
        low, high = (low, middle) if success else (middle, high)
    return high * float((start - x).norm())


def test_it_walks_from_three_images_and_keeps_the_nearest_end(oracle: Any, run: Any) -> None:
    x_adv = run("hopskipjump", oracle.target, oracle.x, oracle.y, "l2", 0.1, query_budget=33)
    found = distance(x_adv, oracle.x, "l2")
    away = torch.cdist(oracle.x.flatten(1), oracle.x.flatten(1))
    order = away.masked_fill(oracle.y[:, None] == oracle.y, torch.inf).argsort(dim=1)
    ends = torch.tensor([[walked(oracle, i, oracle.x[j]) for j in order[i, :3]] for i in range(len(oracle.x))])
    torch.testing.assert_close(found, ends.amin(dim=1), atol=1e-4, rtol=1e-4)
    assert len(ends.argmin(dim=1).unique()) == 3


def test_the_walk_goes_on_from_the_nearest_end(oracle: Any) -> None:
    best = Best.of(oracle.x, oracle.y, None, None)
    samples = best.samples()
    state = decision._State.start(samples)
    run = decision._Run(oracle.target, PerturbationBudget("l2", 0.1), 33, True, best, samples, state)
    decision._start_from_images(run, oracle.x, decision._labels_wanted(samples, oracle.y))
    torch.testing.assert_close(distance(state.point, oracle.x, "l2"), best.distance)


def test_a_mistake_of_the_network_is_a_start_where_nothing_else_is(oracle: Any, run: Any) -> None:
    """One class by its labels, and a network that takes noise for that class."""
    kept = oracle.y == oracle.y[0]
    other = oracle.x[~kept][:1]
    x, y = torch.cat((oracle.x[kept], other)), oracle.y[:1].repeat(int(kept.sum()) + 1)
    active = torch.arange(len(x)) < len(x) - 1

    class NoiseIsMine(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = oracle.target.network(images).clone()
            wild = images.flatten(1).std(dim=1) > 0.2
            logits[wild, int(y[0])] = 1e3
            return logits

    target = NetworkTarget(NoiseIsMine(), name="n", digest="d" * 64, input_shape=(1, 8, 8), num_classes=5)
    x_adv = run("hopskipjump", target, x, y, "l2", 0.1, query_budget=300, active=active)
    assert bool((target.predict(x_adv[active]) != y[active]).all())


def test_without_other_images_it_starts_from_noise(oracle: Any, run: Any) -> None:
    for x, y in zip(oracle.x.split(1), oracle.y.split(1), strict=True):
        x_adv = run("hopskipjump", oracle.target, x, y, "l2", 0.1, query_budget=300)
        assert bool(oracle.target.predict(x_adv) != y)


def test_without_a_start_it_stops_after_a_hundred_queries(stubborn: Callable[[int], NetworkTarget], run: Any) -> None:
    target, x = stubborn(4), torch.rand((120, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    first = torch.arange(120) == 0
    x_adv = run("hopskipjump", target, x, (~first).long(), "l2", 0.1, active=first)
    assert target.passes.forward == 100
    assert bool((x_adv[0] != x[0]).any())


def test_within_eps_it_leaves_before_it_walks_from_a_second_image(oracle: Any, run: Any) -> None:
    run("hopskipjump", oracle.target, oracle.x, oracle.y, "l2", 8.0, query_budget=2000, minimize=False)
    assert oracle.target.passes.forward == 11 * len(oracle.x)


def test_nobody_to_attack(oracle: Any, run: Any) -> None:
    nobody = torch.zeros_like(oracle.y, dtype=torch.bool)
    x_adv = run("hopskipjump", oracle.target, oracle.x, oracle.y, "l2", 0.1, active=nobody)
    assert torch.equal(x_adv, oracle.x)
