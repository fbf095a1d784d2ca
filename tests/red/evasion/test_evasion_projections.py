"""The geometry of the budgets: hand-computed points, and the laws of a projection onto a convex set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.red.evasion.math.projections import distance, linear_maximiser, project, random_start, steepest
from secure_ai.red.evasion.suite.verify import allowed_distance, measured_distance

BUDGETS: list[tuple[Norm, float]] = [
    ("linf", 0.1),
    ("linf", 1.0),
    ("l2", 0.02),
    ("l2", 1.5),
    ("l2", 100.0),
    ("l1", 0.05),
    ("l1", 12.0),
    ("l1", 1e4),
    ("l0", 1),
    ("l0", 30),
    ("l0", 1e4),
]
CONVEX = [budget for budget in BUDGETS if budget[0] != "l0"]


def images(seed: int, n: int = 40) -> Tensor:
    """Half of the values at 0 or 1, where the box matters."""
    draw = torch.Generator().manual_seed(seed)
    x = 1.6 * torch.rand((n, 1, 12, 12), generator=draw) - 0.3
    return x.clamp(0, 1)


def far(seed: int, x: Tensor, scale: float = 0.5) -> Tensor:
    return x + scale * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def row(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("norm", "eps", "x", "point", "expected"),
    [
        ("linf", 0.1, [0.5, 0.95, 0.0], [0.7, 1.5, -0.4], [0.6, 1.0, 0.0]),
        # 3-4-5 triangle, scaled to 0.1
        ("l2", 0.1, [0.5, 0.5], [0.5 + 0.3, 0.5 - 0.4], [0.56, 0.42]),
        # the first value may move 0.03 only, so the second gets sqrt(0.05^2 - 0.03^2) = 0.04
        ("l2", 0.05, [0.97, 0.5], [1.97, 0.7], [1.0, 0.54]),
        # soft threshold: 0.5 + 0.2 - 2 t = 0.5, t = 0.1
        ("l1", 0.5, [0.2, 0.5], [0.7, 0.3], [0.6, 0.4]),
        # the first value may move 0.1 only; the two others share 0.3: 0.4 + 0.2 - 2 t = 0.3, t = 0.15
        ("l1", 0.4, [0.9, 0.2, 0.5], [1.7, 0.6, 0.3], [1.0, 0.45, 0.45]),
        # a value that may not move at all costs nothing
        ("l1", 0.1, [1.0, 0.5], [3.0, 0.8], [1.0, 0.6]),
        ("l0", 1, [0.5, 0.5, 1.0], [0.6, 0.3, 9.0], [0.5, 0.3, 1.0]),
        ("l0", 0, [0.5, 0.5], [0.6, 0.3], [0.5, 0.5]),
    ],
)
def test_projection_by_hand(norm: Norm, eps: float, x: list[float], point: list[float], expected: list[float]) -> None:
    found = project(row(*point), row(*x), PerturbationBudget(norm, eps))
    torch.testing.assert_close(found, row(*expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("norm", "eps"), BUDGETS)
@pytest.mark.parametrize("scale", [1e-3, 0.5, 50.0])
def test_projection_ends_in_ball_and_box_and_stays_there(norm: Norm, eps: float, scale: float) -> None:
    budget, x = PerturbationBudget(norm, eps), images(0)
    once = project(far(1, x, scale), x, budget)
    assert once.dtype == torch.float32
    assert once.min() >= 0
    assert once.max() <= 1
    assert bool((measured_distance(once, x, budget) <= allowed_distance(budget)).all())
    torch.testing.assert_close(project(once, x, budget), once, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("norm", "eps"), BUDGETS)
def test_a_point_inside_is_left_alone(norm: Norm, eps: float) -> None:
    budget, x = PerturbationBudget(norm, eps), images(2)
    assert torch.equal(project(x, x, budget), x)
    inside = random_start(x, budget, torch.Generator().manual_seed(0))
    torch.testing.assert_close(project(inside, x, budget), inside, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("norm", "eps"), CONVEX)
def test_no_point_of_the_set_is_nearer(norm: Norm, eps: float) -> None:
    """p is the projection of v if and only if (v - p)·(z - p) <= 0 for every z of the convex set."""
    budget, x = PerturbationBudget(norm, eps), images(3)
    v = far(4, x)
    p = project(v, x, budget)
    for seed, scale in enumerate((0.01, 0.1, 1.0, 10.0)):
        others = [
            project(far(seed, v, scale), x, budget),
            random_start(x, budget, torch.Generator().manual_seed(seed)),
            x,
        ]
        for z in others:
            assert ((v - p) * (z - p)).flatten(1).double().sum(dim=1).max() <= 2e-5


@pytest.mark.parametrize(("norm", "eps"), [("l2", 1.5), ("l1", 12.0)])
def test_the_whole_budget_is_used_where_the_box_leaves_room(norm: Norm, eps: float) -> None:
    budget, x = PerturbationBudget(norm, eps), images(5)
    used = distance(project(far(6, x), x, budget), x, norm)
    torch.testing.assert_close(used, torch.full_like(used, eps), atol=0, rtol=5e-6)


@pytest.mark.parametrize(("norm", "eps"), BUDGETS)
def test_random_start_lies_in_ball_and_box_and_comes_from_the_generator(norm: Norm, eps: float) -> None:
    budget, x = PerturbationBudget(norm, eps), images(7)
    before = torch.get_rng_state()
    first = random_start(x, budget, torch.Generator().manual_seed(1))
    again = random_start(x, budget, torch.Generator().manual_seed(1))
    other = random_start(x, budget, torch.Generator().manual_seed(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1
    assert bool((measured_distance(first, x, budget) <= allowed_distance(budget)).all())
    assert bool((first != x).flatten(1).any(dim=1).float().mean() > 0.5)


def test_random_start_fills_the_linf_ball() -> None:
    x = torch.full((4, 1, 50, 50), 0.5)
    delta = random_start(x, PerturbationBudget("linf", 0.2), torch.Generator().manual_seed(0)) - x
    assert abs(float(delta.mean())) < 0.005
    assert float(delta.std()) == pytest.approx(0.2 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_random_start_is_uniform_in_the_ball_not_in_its_radius(norm: Norm) -> None:
    """In D dimensions the ball of half the radius holds 1 / 2 ** D of the volume."""
    x = torch.full((4000, 1, 2, 2), 0.5)
    delta = random_start(x, PerturbationBudget(norm, 0.2), torch.Generator().manual_seed(0)) - x
    inner = distance(x + delta, x, norm) < 0.1
    assert float(inner.float().mean()) == pytest.approx(1 / 16, abs=0.015)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_steepest_step_has_norm_one(norm: Norm) -> None:
    gradient = torch.randn((5, 1, 20, 20), generator=torch.Generator().manual_seed(0))
    step = steepest(gradient, norm)
    torch.testing.assert_close(distance(step, torch.zeros_like(step), norm), torch.ones(5))
    assert bool(((step * gradient).flatten(1).sum(dim=1) > 0).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_steepest_depends_on_direction_only_and_zero_stays_zero(norm: Norm) -> None:
    gradient = torch.randn((3, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    gradient[1] = 0
    torch.testing.assert_close(steepest(gradient * 1e-30, norm), steepest(gradient, norm))
    assert torch.equal(steepest(gradient, norm)[1], torch.zeros(1, 6, 6))


def test_l1_steepest_moves_the_largest_hundredth() -> None:
    gradient = torch.arange(400.0).view(1, 1, 20, 20)
    step = steepest(-gradient, "l1").flatten()
    assert step.nonzero().squeeze(1).tolist() == [396, 397, 398, 399]
    assert step[396:].tolist() == [-0.25] * 4


def test_linear_maximiser_by_hand() -> None:
    gradient, x = row(3.0, -2.0, 1.0), row(0.9, 0.5, 0.5)
    l1 = linear_maximiser(gradient, x, PerturbationBudget("l1", 0.4))
    torch.testing.assert_close(l1, row(0.1, -0.3, 0.0))  # 0.1 is all that the best value can take
    l0 = linear_maximiser(gradient, x, PerturbationBudget("l0", 2))
    torch.testing.assert_close(l0, row(0.0, -0.5, 0.5))  # gains 0.3, 1.0, 0.5


@pytest.mark.parametrize(("norm", "eps"), [("l1", 3.0), ("l0", 9)])
def test_nothing_in_the_ball_beats_the_linear_maximiser(norm: Norm, eps: float) -> None:
    budget, x = PerturbationBudget(norm, eps), images(8)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    best = linear_maximiser(gradient, x, budget)
    gain = (gradient * best).flatten(1).sum(dim=1)
    assert bool((measured_distance(x + best, x, budget) <= allowed_distance(budget)).all())
    for seed in range(20):
        other = project(x + 0.3 * seed * gradient + far(seed, 0 * x), x, budget) - x
        assert bool(((gradient * other).flatten(1).sum(dim=1) <= gain + 1e-4).all())
