"""Perturbation budgets: the range of each norm, fractions kept as written, and what is no number."""

from __future__ import annotations

import math

import pytest

from secure_ai.core.budget import (
    MAX_EPS_CHARACTERS,
    NORMS,
    Norm,
    PerturbationBudget,
    largest_budget,
    parse_budget,
    parse_eps,
)
from secure_ai.core.errors import BudgetError

DIMENSIONS = 784


@pytest.mark.parametrize(
    ("norm", "eps", "value"),
    [
        ("linf", "8/255", 8 / 255),
        ("linf", "0.25", 0.25),
        ("linf", "1", 1.0),
        ("linf", " 1 / 4 ", 0.25),
        ("linf", 0.3, 0.3),
        ("l2", "28", 28.0),
        ("l2", "2.5e-1", 0.25),
        ("l1", "784", 784.0),
        ("l0", "5", 5.0),
        ("l0", "784", 784.0),
        ("l0", "10/2", 5.0),
    ],
)
def test_values_inside_the_range_are_taken(norm: str, eps: str | float, value: float) -> None:
    budget = parse_budget(norm, eps, DIMENSIONS)
    assert str(budget.norm) == norm
    assert budget.eps == pytest.approx(value, rel=1e-15)
    assert budget.eps_text == str(eps)
    assert budget.as_json() == {"norm": norm, "eps": budget.eps, "eps_text": str(eps)}


@pytest.mark.parametrize(
    ("norm", "eps"),
    [
        ("linf", "0"),
        ("linf", "1.0000001"),
        ("linf", "-1/255"),
        ("l2", "28.001"),
        ("l1", "785"),
        ("l0", "785"),
        ("l0", "2.5"),
        ("l0", "1/2"),
        ("l3", "0.1"),
        ("", "0.1"),
    ],
)
def test_values_outside_the_range_are_refused(norm: str, eps: str) -> None:
    with pytest.raises(BudgetError) as caught:
        parse_budget(norm, eps, DIMENSIONS)
    assert caught.value.expected
    assert caught.value.got or not norm


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "-inf", "1/0", "1//2", "0x1", "1,5", "8/255/2", "9" * 50, "1e999"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(BudgetError):
        parse_eps(text)


def test_a_long_text_is_refused_before_it_is_computed() -> None:
    with pytest.raises(BudgetError):
        parse_eps("1" * MAX_EPS_CHARACTERS + "1")
    assert parse_eps("0." + "1" * (MAX_EPS_CHARACTERS - 2)) == pytest.approx(1 / 9)


def test_zero_is_for_curves_only() -> None:
    assert parse_budget("linf", "0", DIMENSIONS, allow_zero=True).eps == 0
    with pytest.raises(BudgetError):
        parse_budget("linf", "-0.1", DIMENSIONS, allow_zero=True)


def test_the_range_of_l2_follows_the_image() -> None:
    assert parse_budget("l2", "2", 4).eps == math.sqrt(4)
    with pytest.raises(BudgetError):
        parse_budget("l2", "2", 3)


@pytest.mark.parametrize("eps", [math.nan, math.inf, -0.1])
def test_a_budget_made_by_hand_is_checked_too(eps: float) -> None:
    with pytest.raises(BudgetError):
        PerturbationBudget("linf", eps)


def test_the_text_of_a_budget() -> None:
    assert str(PerturbationBudget("linf", 8 / 255, "8/255")) == "linf 8/255"
    assert str(PerturbationBudget("l2", 0.5)) == "l2 0.5"
    assert NORMS == ("linf", "l2", "l1", "l0")


@pytest.mark.parametrize(("norm", "largest"), [("linf", 1.0), ("l2", 28.0), ("l1", 784.0), ("l0", 784.0)])
def test_the_largest_budget_is_the_last_that_is_accepted(norm: Norm, largest: float) -> None:
    assert largest_budget(norm, 784).eps == largest
    assert parse_budget(norm, largest, 784).eps == largest
    with pytest.raises(BudgetError) as refused:
        parse_budget(norm, largest + 1, 784)
    assert refused.value.expected == f"in (0, {largest:g}]"
