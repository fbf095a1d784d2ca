"""Square: success on linear models, queries counted, no gradients, and its shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.square_shapes import bump, fraction_at, pattern, place, tiled, window_side

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
ENOUGH: dict[Norm, float] = {"linf": 2.0, "l2": 2.0, "l1": 4.0}
"""Multiple of the smallest distance at which 2,000 queries break every image of the linear model: no window reaches the
last row and column (linf: they keep the first stripes), and windows of 3 x 3 cannot follow an optimum not smooth."""


@pytest.mark.parametrize("norm", NORMS)
def test_breaks_what_can_be_broken_and_nothing_else(norm: Norm, two: Any, run: Any) -> None:
    best = two.optimum(norm)
    arguments = ("square", two.target, two.x, two.y, norm)
    above = run(*arguments, ENOUGH[norm] * float(best.max()), query_budget=2000, rescale_schedule=True)
    assert bool((two.target.predict(above) != two.y).all())
    below = run(*arguments, 0.99 * float(best.min()), query_budget=100)
    asked = two.target.passes.forward / len(two.x)
    assert asked <= 100 if norm == "linf" else asked == 100  # a window of two values may change nothing
    assert asked > 50
    assert two.target.passes.backward == 0
    assert not bool((two.target.predict(below) != two.y).any())


def test_a_window_that_changes_nothing_is_not_asked_about_unless_the_network_is_random(
    cnn_case: Callable[..., Any], run: Any
) -> None:
    case = cnn_case(32)
    arguments = (case.x, case.y, "linf", 0.01)
    saved = run("square", case.target, *arguments, query_budget=300)
    asked = case.target.passes.forward
    random = NetworkTarget(
        case.target.network, name="random", digest="", input_shape=(1, 10, 10), num_classes=5, deterministic=False
    )
    torch.testing.assert_close(run("square", random, *arguments, query_budget=300), saved, atol=0, rtol=0)
    assert asked < 0.95 * random.passes.forward


@pytest.mark.parametrize("norm", NORMS)
def test_more_queries_break_a_superset(norm: Norm, cnn_case: Callable[..., Any], run: Any) -> None:
    case = cnn_case(32)
    eps = {"linf": 0.02, "l2": 0.2, "l1": 1.5}[norm]
    found = [
        case.target.predict(run("square", case.target, case.x, case.y, norm, eps, query_budget=q)) != case.y
        for q in (1, 20, 200)
    ]
    assert bool((found[1] | ~found[0]).all())
    assert bool((found[2] | ~found[1]).all())
    assert int(found[0].sum()) < int(found[2].sum()) <= len(case.x)


@pytest.mark.parametrize("norm", NORMS)
def test_same_generator_same_result_and_other_samples_do_not_matter(
    norm: Norm, cnn_case: Callable[..., Any], run: Any
) -> None:
    case = cnn_case(24)
    arguments = ("square", case.target, case.x, case.y, norm, {"linf": 0.01, "l2": 0.1, "l1": 0.5}[norm])
    first, again, other = (run(*arguments, query_budget=40, restarts=2, seed=seed) for seed in (5, 5, 6))
    some = torch.arange(24) % 3 == 0
    part = run(*arguments, query_budget=40, restarts=2, active=some)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(part[some], first[some], atol=1e-4, rtol=0)


def test_a_target_label_is_the_goal(oracle: Any, run: Any) -> None:
    wanted = (oracle.y + 3) % 5
    x_adv = run("square", oracle.target, oracle.x, oracle.y, "linf", 0.6, target_label=wanted, query_budget=1000)
    assert torch.equal(oracle.target.predict(x_adv), wanted)


def test_sees_scores_only(oracle: Any, cut: NetworkTarget, run: Any) -> None:
    eps = ENOUGH["linf"] * float(oracle.optimum("linf").max())
    x_adv = run("square", cut, oracle.x, oracle.y, "linf", eps, query_budget=1000, rescale_schedule=True)
    assert bool((cut.predict(x_adv) != oracle.y).all())


@pytest.mark.parametrize("norm", NORMS)
def test_several_channels_and_sides_that_differ(norm: Norm, run: Any) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 9, 4))
    draw = torch.Generator().manual_seed(4)
    x = torch.rand((5, 3, 6, 9), generator=draw)
    target = NetworkTarget(network, name="colour", digest="d" * 64, input_shape=(3, 6, 9), num_classes=4)
    x_adv = run("square", target, x, target.predict(x), norm, 0.3, query_budget=50)
    assert not torch.equal(x_adv, x)


def test_the_schedule_halves_the_fraction_at_the_papers_queries() -> None:
    assert [fraction_at(q, 0.8, 5000, rescale=False) for q in (0, 10, 11, 51, 201, 4001)] == pytest.approx(
        [0.8, 0.8, 0.4, 0.2, 0.1, 0.8 / 128]
    )
    assert fraction_at(2001, 0.8, 5000, rescale=True) == pytest.approx(fraction_at(4001, 0.8, 10_000, rescale=False))
    assert window_side(0.8, 28, 28, "linf") == 25
    assert window_side(0.8 / 128, 28, 28, "linf") == 2
    assert window_side(0.001, 28, 28, "l2") == 3
    assert window_side(0.8, 5, 28, "l2") == 5


def test_windows_lie_everywhere_but_on_the_last_row_and_column() -> None:
    draw = torch.Generator().manual_seed(0)
    drawn = [place(6, 9, 3, draw) for _ in range(400)]
    assert {rows.start for rows, _ in drawn} == {0, 1, 2}
    assert {columns.start for _, columns in drawn} == {0, 1, 2, 3, 4, 5}
    assert place(6, 9, 6, draw)[0] == slice(0, 6)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_patterns_have_norm_one_and_two_halves_of_opposite_sign(norm: Norm) -> None:
    draw = torch.Generator().manual_seed(0)
    for side in (1, 2, 3, 7, 12):
        shape: Tensor = pattern(side, norm, draw)
        assert shape.shape == (side, side)
        assert float(shape.norm(2 if norm == "l2" else 1)) == pytest.approx(1.0, abs=1e-5)
        assert side == 1 or float(shape.min()) < 0 < float(shape.max())
    assert tiled((2, 1, 12, 12), norm, draw).shape == (2, 1, 12, 12)
    peak = bump(5, 5, 2)
    assert float(peak[2, 2]) == float(peak.max()) == pytest.approx(1 + 1 / 4 + 1 / 9)


@pytest.mark.parametrize(("norm", "decay"), [("l2", 2), ("l1", 4)])
def test_patterns_fall_off_as_the_papers_of_each_norm_do(norm: Norm, decay: int) -> None:
    """Side 7: a half is 3 x 7 with its centre in the fourth column, so that the corner is in the fourth ring alone."""
    found = pattern(7, norm, torch.Generator().manual_seed(0))
    half = found[:3] if bool((found[:3] > 0).all()) else found[:, :3]
    assert float(half.max() / half[0, 0]) == pytest.approx(4**decay * sum(1 / m**decay for m in (1, 2, 3, 4)))
