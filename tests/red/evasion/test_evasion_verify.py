"""The checks that no attack gets past."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.errors import AttackOutputError
from secure_ai.red.evasion.contract import Kind
from secure_ai.red.evasion.suite.verify import Verified, verify

BUDGET = PerturbationBudget("linf", 0.1)
X = torch.full((4, 1, 5, 5), 0.5)
ROWS = torch.tensor([1, 3])


def run(x_adv: object, budget: PerturbationBudget = BUDGET, kind: Kind = "budget", x: Tensor = X) -> Verified:
    return verify(x_adv, x, attack="cheat:steps=1", budget=budget, kind=kind, rows=ROWS, first=256)


def moved(row: int, index: int, value: float) -> Tensor:
    x_adv = X.clone()
    x_adv[row].view(-1)[index] = value
    return x_adv


def test_an_honest_result_passes_and_the_clean_image_is_noticed() -> None:
    checks = run(moved(3, 0, 0.6))
    assert checks.within.tolist() == [True, True]
    assert checks.moved.tolist() == [False, True]


@pytest.mark.parametrize(
    ("x_adv", "told"),
    [
        (None, "NoneType"),
        ([0.5], "list"),
        (X[:3], "(3, 1, 5, 5)"),
        (X.flatten(1), "(4, 25)"),
        (X.double(), "torch.float64"),
        (X.numpy(), "ndarray"),
        (moved(3, 2, float("nan")), "sample 259"),
        (moved(1, 2, float("inf")), "not finite"),
        (moved(3, 2, 0.39), "outside the budget"),
        (moved(1, 0, -0.3), "leaves [0, 1]"),
        (moved(3, 24, 0.61), "got: 0.1100"),
        (moved(1, 24, 0.39), "linf <= 0.100001"),
    ],
)
def test_a_cheat_is_named_with_sample_measured_and_allowed(x_adv: object, told: str) -> None:
    with pytest.raises(AttackOutputError) as caught:
        run(x_adv)
    assert told in str(caught.value)
    assert "cheat:steps=1" in caught.value.where


def test_values_above_one_are_refused_even_inside_the_budget() -> None:
    x = torch.full((4, 1, 5, 5), 0.99)
    high = x.clone()
    high[1] += 0.05
    with pytest.raises(AttackOutputError, match=r"leaves \[0, 1\]"):
        run(high, x=x)


def test_samples_not_worked_on_are_not_looked_at() -> None:
    assert run(moved(2, 0, 5.0)).within.all()


@pytest.mark.parametrize(
    ("norm", "eps", "inside", "outside"),
    [
        ("linf", 0.1, 0.1 + 9e-7, 0.1 + 2e-6),
        ("l2", 0.5, 0.5 * (1 + 8e-6), 0.5 * (1 + 2e-5)),
        ("l1", 0.5, 0.5 * (1 + 8e-6), 0.5 * (1 + 2e-5)),
        ("l2", 0.003, 0.003 + 9e-7, 0.003 + 2e-6),
    ],
)
def test_the_tolerance_is_the_documented_one(norm: Norm, eps: float, inside: float, outside: float) -> None:
    x, budget = torch.zeros_like(X), PerturbationBudget(norm, eps)
    good, bad = x.clone(), x.clone()
    good[1, 0, 0, 0], bad[1, 0, 0, 0] = inside, outside
    assert run(good, budget, x=x).within.all()
    with pytest.raises(AttackOutputError):
        run(bad, budget, x=x)


def test_l0_is_exact() -> None:
    budget, x_adv = PerturbationBudget("l0", 2), X.clone()
    x_adv[1, 0, 0, :2] += 1e-6
    assert run(x_adv, budget).within.all()
    x_adv[1, 0, 0, 2] += 1e-7
    with pytest.raises(AttackOutputError, match="l0 <= 2"):
        run(x_adv, budget)


def test_a_minimum_norm_attack_may_end_outside_but_that_does_not_count() -> None:
    assert run(moved(3, 0, 0.9), kind="minimal").within.tolist() == [True, False]
    with pytest.raises(AttackOutputError, match="not finite"):
        run(moved(3, 0, float("nan")), kind="minimal")
