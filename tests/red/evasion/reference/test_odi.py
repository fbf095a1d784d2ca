"""ODI-PGD: the linear oracle, and a plateau that only a start along other logits leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.square import square_start
from secure_ai.red.evasion.math.losses import margin

NORMS: tuple[Norm, ...] = ("linf", "l2")
EPS = 0.1


class Needle(nn.Module):
    """Class 1 only near one point inside the ball."""

    def __init__(self, centre: Tensor, radius: float) -> None:
        super().__init__()
        self.centre, self.radius = centre, radius

    def forward(self, x: Tensor) -> Tensor:
        score = self.radius - (x - self.centre).abs().flatten(1).mean(dim=1)
        return torch.stack([-score, score], dim=1)


def broken(target: NetworkTarget, x_adv: Tensor, y: Tensor) -> Tensor:
    return target.predict(x_adv) != y


class Plateau(nn.Module):
    """Class 0, unless nearly all of the image moves by EPS; until then only class 2, far behind, has a slope.

    `way`: 1 if it has to become brighter, -1 if darker, which is where class 2 falls.
    """

    def __init__(self, way: int) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        brighter = x.flatten(1).mean(dim=1) - 0.5
        near = 0.1 + 100 * (self.way * brighter - 0.9 * EPS).relu()
        return torch.stack([torch.full_like(brighter, 0.5), near, brighter - 5], dim=1)


class Elsewhere(nn.Module):
    """The answers of `value`, with slopes that lead as `slope` says: both take images to a lead of class 1, (R,)."""

    def __init__(self, value: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.value, self.slope = value, slope

    def forward(self, x: Tensor) -> Tensor:
        sloping = self.slope(x)
        lead = self.value(x).detach() + sloping - sloping.detach()
        return torch.stack([torch.ones_like(lead), 1 + lead], dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_two_classes_break_just_above_the_optimum_and_never_below(norm: Norm, two: Any, run: Any) -> None:
    best = two.optimum(norm)
    for index in range(len(two.x)):
        x, y = two.x[index : index + 1], two.y[index : index + 1]
        above = run("odi-pgd", two.target, x, y, norm, 1.05 * float(best[index]))
        below = run("odi-pgd", two.target, x, y, norm, 0.99 * float(best[index]), restarts=2)
        assert bool(broken(two.target, above, y).all())
        assert not bool(broken(two.target, below, y).any())


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_of_many_classes_is_found(norm: Norm, oracle: Any, run: Any) -> None:
    best = oracle.optimum(norm)
    eps = float(best.median())
    found = broken(oracle.target, run("odi-pgd", oracle.target, oracle.x, oracle.y, norm, eps), oracle.y)
    assert bool(found[1.02 * best < eps].all())
    assert not bool(found[best > eps * (1 + 1e-5)].any())


@pytest.mark.parametrize("way", [1, -1])
def test_a_start_along_other_logits_leaves_a_plateau_of_the_margin(way: int, run: Any) -> None:
    target = NetworkTarget(Plateau(way), name="plateau", digest="d" * 64, input_shape=(1, 4, 32), num_classes=3)
    x, y = torch.full((40, 1, 4, 32), 0.5), torch.zeros(40, dtype=torch.int64)
    stuck = run("odi-pgd", target, x, y, "linf", EPS, odi_steps=0)
    assert not bool(broken(target, stuck, y).any())
    apart = run("odi-pgd", target, x, y, "linf", EPS)
    assert bool(broken(target, apart, y).all())
    each_its_own_way = int(broken(target, run("odi-pgd", target, x, y, "linf", EPS, restarts=1), y).sum())
    assert 5 < each_its_own_way < 35


def test_the_iterate_that_met_the_goal_is_returned_not_the_next(run: Any) -> None:
    def change(x: Tensor) -> Tensor:
        return (x - 0.5).abs().flatten(1).mean(dim=1) - 0.9 * EPS

    back_to_clean = Elsewhere(change, lambda x: -change(x))
    target = NetworkTarget(back_to_clean, name="elsewhere", digest="d" * 64, input_shape=(1, 4, 4), num_classes=2)
    x, y = torch.full((8, 1, 4, 4), 0.5), torch.zeros(8, dtype=torch.int64)
    assert bool(broken(target, run("odi-pgd", target, x, y, "linf", EPS, odi_steps=0), y).all())


def test_a_lead_by_rounding_ends_no_search(run: Any) -> None:
    def brighter(x: Tensor) -> Tensor:
        return x.flatten(1).mean(dim=1) - 0.5 - 0.9 * EPS

    leads_by_rounding = Elsewhere(lambda x: brighter(x).clamp(min=2e-7), brighter)
    target = NetworkTarget(leads_by_rounding, name="elsewhere", digest="d" * 64, input_shape=(1, 4, 4), num_classes=2)
    x, y = torch.full((8, 1, 4, 4), 0.5), torch.zeros(8, dtype=torch.int64)
    assert bool(broken(target, x, y).all())  # by rounding
    assert bool((brighter(run("odi-pgd", target, x, y, "linf", EPS)) > 0).all())


def test_a_target_class_is_the_goal(oracle: Any, run: Any) -> None:
    eps = 3 * float(oracle.optimum("linf").max())
    wanted = (oracle.y + 1) % 5
    reached = run("odi-pgd", oracle.target, oracle.x, oracle.y, "linf", eps, target_label=wanted)
    assert float((oracle.target.predict(reached) == wanted).float().mean()) > 0.8
    elsewhere = run("odi-pgd", oracle.target, oracle.x, oracle.y, "linf", eps)
    assert float((oracle.target.predict(elsewhere) == wanted).float().mean()) < 0.8


def test_more_restarts_break_a_superset(cnn_case: Callable[..., Any], run: Any) -> None:
    case = cnn_case(64)
    once, thrice = (
        broken(case.target, run("odi-pgd", case.target, case.x, case.y, "linf", 0.02, steps=2, restarts=r), case.y)
        for r in (1, 3)
    )
    assert bool((thrice | ~once).all())
    assert int(thrice.sum()) > int(once.sum()) > 0


def test_a_model_without_gradients_is_no_crash(cut: NetworkTarget, oracle: Any, run: Any) -> None:
    attempt = run("odi-pgd", cut, oracle.x, oracle.y, "linf", 0.01, restarts=2)
    assert not torch.equal(attempt, oracle.x)
    assert cut.passes.backward == 0


def test_broken_samples_leave_at_once(oracle: Any, run: Any) -> None:
    run("odi-pgd", oracle.target, oracle.x, oracle.y, "linf", 0.9)
    assert len(oracle.x) <= oracle.target.passes.forward < 5 * len(oracle.x)


@pytest.mark.parametrize("norm", NORMS)
def test_randomness_is_the_generators_and_other_samples_do_not_matter(norm: Norm, oracle: Any, run: Any) -> None:
    eps = 0.9 * float(oracle.optimum(norm).min())
    arguments = ("odi-pgd", oracle.target, oracle.x, oracle.y, norm, eps)
    first, again, other = (run(*arguments, steps=1, restarts=2, seed=seed) for seed in (5, 5, 6))
    some = torch.arange(len(oracle.x)) % 3 == 1
    part = run(*arguments, steps=1, restarts=2, active=some)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(part[some], first[some], atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_failure_is_the_strongest_attempt(norm: Norm, two: Any, run: Any) -> None:
    eps = 0.95 * float(two.optimum(norm).min())
    attempt = run("odi-pgd", two.target, two.x, two.y, norm, eps, restarts=2)
    before, after = (margin(two.target.logits(images), two.y) for images in (two.x, attempt))
    most = -before * eps / two.optimum(norm)
    assert bool((after - before > 0.9 * most).all())


def test_the_last_iterate_counts(two: Any, run: Any) -> None:
    eps = 0.95 * float(two.optimum("linf").min())
    start = square_start(two.x, PerturbationBudget("linf", eps), torch.Generator().manual_seed(5))
    attempt = run("odi-pgd", two.target, two.x, two.y, "linf", eps, odi_steps=0, steps=1, restarts=1)
    at_start, after = (margin(two.target.logits(images), two.y) for images in (start, attempt))
    assert bool((after > at_start).all())


def test_falling_steps_settle(run: Any) -> None:
    """Steps of one size overshoot the needle for ever."""
    draw = torch.Generator().manual_seed(0)
    centre = 0.5 + 0.9 * EPS * (2 * torch.rand((1, 1, 8, 8), generator=draw) - 1)
    network = Needle(centre, 0.05 * EPS)
    target = NetworkTarget(network, name="needle", digest="d" * 64, input_shape=(1, 8, 8), num_classes=2)
    x, y = torch.full((8, 1, 8, 8), 0.5), torch.zeros(8, dtype=torch.int64)
    found = run("odi-pgd", target, x, y, "linf", EPS, restarts=1)
    assert bool(broken(target, found, y).all())
    assert target.passes.forward > 10 * len(x)
