"""ODI-PGD: the linear oracle, and a plateau that only a start along other logits leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm
from secure_ai.models.target import Target

NORMS: tuple[Norm, ...] = ("linf", "l2")
EPS = 0.1


def broken(target: Target, x_adv: Tensor, y: Tensor) -> Tensor:
    return target.predict(x_adv) != y


class Plateau(nn.Module):
    """Class 0, unless nearly all of the image is brighter by EPS; until then only class 2, far behind, has a slope."""

    def forward(self, x: Tensor) -> Tensor:
        brightness = x.flatten(1).mean(dim=1)
        near = 0.1 + 100 * (brightness - 0.5 - 0.9 * EPS).relu()
        return torch.stack([torch.full_like(brightness, 0.5), near, brightness - 5], dim=1)


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


def test_a_start_along_other_logits_leaves_a_plateau_of_the_margin(run: Any) -> None:
    target = Target(Plateau(), name="plateau", digest="d" * 64, input_shape=(1, 4, 32), num_classes=3)
    x, y = torch.full((40, 1, 4, 32), 0.5), torch.zeros(40, dtype=torch.int64)
    stuck = run("odi-pgd", target, x, y, "linf", EPS, odi_steps=0)
    assert not bool(broken(target, stuck, y).any())
    apart = run("odi-pgd", target, x, y, "linf", EPS)
    assert bool(broken(target, apart, y).all())


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


def test_a_model_without_gradients_is_no_crash(cut: Target, oracle: Any, run: Any) -> None:
    attempt = run("odi-pgd", cut, oracle.x, oracle.y, "linf", 0.01, restarts=2)
    assert not torch.equal(attempt, oracle.x)
    assert cut.passes.backward == 0


def test_broken_samples_leave_at_once(oracle: Any, run: Any) -> None:
    run("odi-pgd", oracle.target, oracle.x, oracle.y, "linf", 0.9)
    assert len(oracle.x) <= oracle.target.passes.forward < 5 * len(oracle.x)
