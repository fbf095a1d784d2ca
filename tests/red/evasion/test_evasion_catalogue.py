"""Reading lists of attacks, refusing bad ones, and the forecast of their cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.errors import AttackSettingsError, CostLimitError
from secure_ai.red.evasion.suite.catalogue import (
    ATTACKS,
    CHOICES,
    MAX_PASSES,
    PASSES,
    PROTOCOLS,
    SUITES,
    check_cost,
    forecast_passes,
    parse_attacks,
)
from secure_ai.red.evasion.suite.costs import COSTS


def test_a_list_is_read_in_order_with_defaults_filled_in() -> None:
    first, second = parse_attacks("pgd:steps=7:restarts=2, fgsm")
    assert (first.name, second.name) == ("pgd", "fgsm")
    assert first.settings == {**ATTACKS["pgd"].settings, "steps": 7, "restarts": 2}
    assert second.settings == ATTACKS["fgsm"].settings


def test_values_take_the_type_of_the_default() -> None:
    (plan,) = parse_attacks("pgd:momentum=1:random_start=false:step_size_rel=0.25")
    assert plan.settings["momentum"] == 1.0
    assert isinstance(plan.settings["momentum"], float)
    assert plan.settings["random_start"] is False
    assert parse_attacks("fgsm:labels=predicted")[0].settings == {"labels": "predicted"}


@pytest.mark.parametrize(
    "text", ["fgsm", "pgd:steps=3:momentum=0.5", "noise:draws=9", "pgd:random_start=false", *SUITES]
)
def test_a_plan_is_read_back_from_its_own_text(text: str) -> None:
    plans = parse_attacks(text)
    assert parse_attacks(",".join(plan.text for plan in plans)) == plans


@pytest.mark.parametrize(("suite", "norm"), [(suite, norm) for suite, norms in SUITES.items() for norm in norms])
def test_a_suite_stands_for_its_list(suite: str, norm: Norm) -> None:
    assert parse_attacks(suite, norm) == parse_attacks(SUITES[suite][norm], norm)
    assert len(parse_attacks(suite, norm)) >= 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "unknown attack"),
        ("pgd,,fgsm", "unknown attack"),
        ("pdg", "did you mean pgd"),
        ("fats", "did you mean fast"),
        ("PGD", "unknown attack"),
        ("fast:steps=3", "a suite takes no settings"),
        ("pgd:step=3", "did you mean steps"),
        ("pgd:steps", "no such setting"),
        ("pgd:steps=3:steps=4", "twice"),
        ("pgd:steps=three", "a whole number from 1 to 100000"),
        ("pgd:steps=2.5", "a whole number"),
        ("pgd:steps=0", "outside its range"),
        ("pgd:steps=-1", "outside its range"),
        ("pgd:steps=1000000000", "outside its range"),
        ("pgd:steps=" + "9" * 4000, "outside its range"),
        ("pgd:restarts=1001", "outside its range"),
        ("pgd:momentum=nan", "outside its range"),
        ("pgd:step_size_rel=inf", "outside its range"),
        ("pgd:random_start=maybe", "true or false"),
        ("fgsm:labels=wrong", "true or predicted"),
        ("fgsm,fgsm", "listed twice"),
        ("pgd,pgd:steps=40", "listed twice"),
        ("fgsm," * 1000 + "fgsm", "too long"),
    ],
)
def test_bad_lists_are_refused_with_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(AttackSettingsError) as caught:
        parse_attacks(text)
    assert told in str(caught.value)


def test_the_same_attack_with_other_settings_is_no_repetition() -> None:
    assert len(parse_attacks("pgd:steps=3,pgd:steps=4")) == 2


def test_every_row_is_complete() -> None:
    assert PASSES.keys() | COSTS.keys() == ATTACKS.keys()
    assert not PASSES.keys() & COSTS.keys()
    assert not ATTACKS.keys() & (SUITES.keys() | PROTOCOLS.keys())
    for name, entry in ATTACKS.items():
        numbers = {k for k, v in entry.settings.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        assert set(entry.limits) == numbers, name
        assert all(low <= float(entry.settings[key]) <= high for key, (low, high) in entry.limits.items()), name
        assert all(entry.settings[key] in CHOICES[key] for key, v in entry.settings.items() if isinstance(v, str)), name
        assert entry.source, name
        assert entry.norms, name


@pytest.mark.parametrize(
    "text", ["fgsm", "fgsm:labels=predicted", "noise:draws=7", "pgd:steps=6:restarts=2:eot_samples=2"]
)
def test_the_forecast_is_what_a_sample_costs_that_is_never_broken(linear_case: Callable[..., Any], text: str) -> None:
    case, (plan,) = linear_case("linf", 0.3), parse_attacks(text)
    with case.target.attacked():
        plan.entry.attack(
            case.target,
            case.x,
            case.y,
            budget=PerturbationBudget("linf", 0.1),
            generator=torch.Generator().manual_seed(0),
            **cast(dict[str, Any], plan.settings),
        )
    passes = case.target.passes
    assert passes.forward + passes.backward == PASSES[plan.name](plan.settings) * len(case.x)


def test_a_forecast_adds_clean_pass_and_verification() -> None:
    assert forecast_passes(parse_attacks("fgsm,pgd:steps=40"), 100) == 100 * (1 + (1 + 2) + (1 + 81))


def test_an_attack_from_elsewhere_counts_with_its_verification() -> None:
    (plan,) = parse_attacks("fgsm")
    assert forecast_passes([replace(plan, name="elsewhere")], 10) == 10 * 2


def test_endless_work_is_refused_before_it_starts() -> None:
    plans = parse_attacks("pgd:steps=100000:restarts=1000")
    with pytest.raises(CostLimitError) as caught:
        check_cost(plans, 1000)
    assert caught.value.exit_code == 3
    assert check_cost(plans, 49) <= MAX_PASSES


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_protocol_stands_for_the_members_of_its_norm(norm: Norm) -> None:
    names = [plan.name for plan in parse_attacks("autoattack", norm)]
    assert names == ["apgd-ce", "apgd-t", "fab-t", "square"]
    targets = {plan.name: plan.settings.get("targets") for plan in parse_attacks("autoattack", norm)}
    assert targets["apgd-t"] == (5 if norm == "l1" else 9)


def test_a_protocol_that_its_norm_lacks_is_refused() -> None:
    with pytest.raises(AttackSettingsError):
        parse_attacks("plus", "l1")
    with pytest.raises(AttackSettingsError, match="suite takes no settings"):
        parse_attacks("autoattack:steps=3")


def test_plus_on_all_of_mnist_is_no_endless_work() -> None:
    plans = parse_attacks("plus", "linf")
    assert check_cost(plans, 60_000, 10) <= MAX_PASSES
    with pytest.raises(CostLimitError):
        check_cost(plans, 60_000)
