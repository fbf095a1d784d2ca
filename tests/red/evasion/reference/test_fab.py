"""FAB: the minimum distance on linear models, the hyperplane projection, and what `minimize` changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.math.hyperplane import length, towards_hyperplane
from secure_ai.red.evasion.math.projections import distance

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
NAMES = ("fab", "fab-t")
WORST_RATIO = 1.02  # of the distance found to the smallest there is, on a linear model of 2 classes


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NAMES)
def test_finds_the_smallest_distance(name: str, norm: Norm, two: Any, oracle: Any, run: Any) -> None:
    for model, worst in ((two, WORST_RATIO), (oracle, 1.1)):
        best = model.optimum(norm)
        x_adv = run(name, model.target, model.x, model.y, norm, float(best.median()), steps=50)
        ratio = distance(x_adv, model.x, norm) / best
        assert bool((model.target.predict(x_adv) != model.y).all())
        assert float(ratio.min()) >= 1 - 1e-4
        assert float(ratio.median()) <= WORST_RATIO
        assert float(ratio.max()) <= worst


@pytest.mark.parametrize("name", NAMES)
def test_more_steps_never_lead_further(name: str, cnn_case: Callable[..., Any], run: Any) -> None:
    case = cnn_case(16)
    found = []
    for steps in (3, 10, 40):
        x_adv = run(name, case.target, case.x, case.y, "l1", 1.0, steps=steps)
        away = distance(x_adv, case.x, "l1")
        found.append(torch.where(case.target.predict(x_adv) != case.y, away, torch.inf))
    assert bool((found[1] <= found[0]).all())
    assert bool((found[2] <= found[1]).all())
    assert float(found[2].median()) < float(found[0].median())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NAMES)
def test_without_minimize_the_same_samples_break_within_eps_at_less_cost(
    name: str, norm: Norm, cnn_case: Callable[..., Any], run: Any
) -> None:
    case = cnn_case(24)
    eps = {"linf": 0.008, "l2": 0.04, "l1": 0.12}[norm]
    within, passes = [], []
    for minimize in (True, False):
        x_adv = run(name, case.target, case.x, case.y, norm, eps, steps=20, minimize=minimize)
        within.append((case.target.predict(x_adv) != case.y) & (distance(x_adv, case.x, norm) <= eps))
        passes.append(case.target.passes.forward)
    assert torch.equal(within[0], within[1])
    assert 0 < int(within[0].sum()) < len(case.x)
    assert passes[1] < passes[0]


@pytest.mark.parametrize("name", NAMES)
def test_restarts_help_or_do_nothing(name: str, cnn_case: Callable[..., Any], run: Any) -> None:
    case = cnn_case(16)
    one, three = (
        distance(run(name, case.target, case.x, case.y, "l2", 0.3, steps=10, restarts=r), case.x, "l2") for r in (1, 3)
    )
    assert bool((three <= one).all())
    assert float(three.sum()) < float(one.sum())


@pytest.mark.parametrize("name", NAMES)
def test_other_samples_do_not_matter(name: str, oracle: Any, run: Any) -> None:
    some = torch.arange(len(oracle.x)) % 2 == 0
    arguments = (name, oracle.target, oracle.x, oracle.y, "l2", 0.1)
    every, part = run(*arguments, steps=10, restarts=2), run(*arguments, steps=10, restarts=2, active=some)
    torch.testing.assert_close(part[some], every[some], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_target_label_is_the_goal(name: str, oracle: Any, run: Any) -> None:
    wanted = (oracle.y + 1) % 5
    x_adv = run(name, oracle.target, oracle.x, oracle.y, "l2", 0.1, target_label=wanted)
    assert torch.equal(oracle.target.predict(x_adv), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_without_gradients_is_no_crash(name: str, oracle: Any, cut: NetworkTarget, run: Any) -> None:
    run(name, cut, oracle.x, oracle.y, "linf", 0.1, steps=3)
    assert cut.passes.backward == 0


def slow_projection(x: Tensor, normal: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """By bisection on the length of the step (linf, l2), or value by value (l1); in double precision."""
    x, normal, gap = x.double(), normal.double(), gap.double()
    direction = normal * gap.sign()[:, None]
    size, room = direction.abs(), torch.where(direction > 0, 1 - x, x)
    if norm == "l1":
        moved = torch.zeros_like(x)
        for row in range(len(x)):
            left = gap[row].abs()
            for index in size[row].argsort(descending=True):
                moved[row, index] = torch.minimum(left / size[row, index].clamp_min(1e-12), room[row, index])
                left = left - moved[row, index] * size[row, index]
        return direction.sign() * moved
    pull = torch.ones_like(size) if norm == "linf" else size
    low, high = torch.zeros_like(gap), torch.full_like(gap, 1e9)
    for _ in range(120):
        middle = (low + high) / 2
        enough = (size * torch.minimum(middle[:, None] * pull, room)).sum(dim=1) >= gap.abs()
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return direction.sign() * torch.minimum(high[:, None] * pull, room)


@pytest.mark.parametrize("norm", NORMS)
def test_the_projection_onto_a_hyperplane_is_exact(norm: Norm) -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.rand((40, 100), generator=draw)
    x = torch.where(torch.rand(x.shape, generator=draw) < 0.4, x.round(), x)
    normal = torch.randn((40, 100), generator=draw)
    gap = torch.randn(40, generator=draw) * torch.linspace(0.1, 120, 40)
    delta = towards_hyperplane(x, normal, gap, norm)
    expected = slow_projection(x, normal, gap, norm).float()
    reachable = (normal * expected).sum(dim=1).sub(gap).abs() < 1e-3
    assert 10 < int(reachable.sum()) < 40
    torch.testing.assert_close((normal * delta).sum(dim=1)[reachable], gap[reachable], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(length(delta, norm), length(expected, norm), atol=1e-4, rtol=1e-4)
    assert float((x + delta).min()) >= -1e-6
    assert float((x + delta).max()) <= 1 + 1e-6
