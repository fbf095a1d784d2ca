"""What the entries say, reading lists of attacks, refusing bad ones, and the forecast of their cost."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from secure_ai.core.budget import NORMS, Norm, PerturbationBudget
from secure_ai.core.errors import AttackSettingsError, CostLimitError
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.pgd import FGSM, PGD
from secure_ai.red.evasion.contract import AttackEntry, CountsAs, Passes
from secure_ai.red.evasion.suite import catalogue
from secure_ai.red.evasion.suite.catalogue import ATTACKS, BORROWED, SUITES
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import MAX_PASSES, Suite, as_suite, parse_attacks, parse_suite
from secure_ai.red.evasion.trust.judge import judge_suite

NAMES = [entry.name for entry in ATTACKS]


def suite_of(text: str, n: int, norm: Norm = "linf", classes: int = 1000) -> Suite:
    return parse_suite(text, norm, "gradients", n, classes)


def test_a_list_is_read_in_order_with_defaults_filled_in() -> None:
    first, second = parse_attacks("pgd:steps=7:restarts=2, fgsm")
    assert (first.name, second.name) == ("pgd", "fgsm")
    assert first.settings == {**PGD.settings, "steps": 7, "restarts": 2}
    assert second.settings == FGSM.settings


def test_values_take_the_type_of_the_default() -> None:
    (plan,) = parse_attacks("pgd:momentum=1:random_start=false:step_size_rel=0.25")
    assert plan.settings["momentum"] == 1.0
    assert isinstance(plan.settings["momentum"], float)
    assert plan.settings["random_start"] is False
    assert parse_attacks("fgsm:labels=predicted")[0].settings == {"labels": "predicted"}


@pytest.mark.parametrize(
    "text",
    [
        "pgd:steps=3:momentum=0.5",
        "noise:draws=9",
        "cw:initial_const=0.00001",
        "square:margin_left=0.1",
        *NAMES,
        *SUITES,
    ],
)
def test_a_plan_is_read_back_from_its_own_text(text: str) -> None:
    plans = parse_attacks(text)
    assert parse_attacks(",".join(str(plan) for plan in plans)) == plans
    assert all(str(plan) == plan.text for plan in plans)


@pytest.mark.parametrize(("suite", "norm"), [(suite, norm) for suite, norms in SUITES.items() for norm in norms])
def test_a_suite_stands_for_its_list(suite: str, norm: Norm) -> None:
    found = suite_of(suite, 10, norm)
    assert found.plans == parse_attacks(SUITES[suite][norm], norm) == parse_attacks(str(found), norm)
    assert len(parse_attacks(suite, norm)) >= 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "unknown attack"),
        ("pgd,,fgsm", "unknown attack"),
        ("pdg", "did you mean pgd"),
        ("fats", "did you mean fast"),
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


@pytest.mark.parametrize("entry", [*ATTACKS, *BORROWED], ids=lambda entry: entry.name)
def test_every_entry_is_complete(entry: AttackEntry) -> None:
    numbers = {k for k, v in entry.settings.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    words = {k for k, v in entry.settings.items() if isinstance(v, str)}
    assert set(entry.limits) == numbers
    assert set(entry.choices) == words
    assert all(low <= float(entry.settings[key]) <= high for key, (low, high) in entry.limits.items())
    assert all(entry.settings[key] in words for key, words in entry.choices.items())
    assert set(entry.norms) <= set(NORMS)
    assert entry.norms
    assert entry.source
    least = entry.counts_as
    assert least is None or {*least.everywhere, *least.near, *least.near_l1} <= set(entry.settings)


def test_names_are_said_once_and_every_attack_declares_its_passes() -> None:
    assert len({*NAMES, *SUITES, *(entry.name for entry in BORROWED)}) == len(NAMES) + len(SUITES) + len(BORROWED)
    assert all(entry.passes for entry in ATTACKS)
    assert catalogue.names() == sorted([*NAMES, *SUITES, *(entry.name for entry in BORROWED)])


@pytest.mark.parametrize("entry", ATTACKS, ids=lambda entry: entry.name)
def test_settings_are_those_of_the_function(entry: AttackEntry) -> None:
    parameters = inspect.signature(entry.attack).parameters
    assert list(parameters) == ["shard", *entry.settings]
    assert all(parameters[key].default == value for key, value in entry.settings.items())


def test_only_attacks_that_look_again_are_iterative() -> None:
    assert [entry.name for entry in ATTACKS if not entry.iterative(entry.settings)] == ["fgsm", "noise"]
    assert not any(entry.iterative(entry.settings) for entry in BORROWED)
    assert not parse_attacks("pgd:steps=1:restarts=9")[0].iterative


@pytest.mark.parametrize(
    "text", ["fgsm", "fgsm:labels=predicted", "noise:draws=7", "pgd:steps=6:restarts=2:eot_samples=2"]
)
def test_the_passes_are_those_of_a_sample_that_is_never_broken(linear_case: Callable[..., Any], text: str) -> None:
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
    assert plan.entry.passes is not None
    expected, passes = plan.entry.passes(plan.settings, 2, "linf"), case.target.passes
    assert (passes.forward, passes.backward) == tuple(len(case.x) * count for count in expected)


def test_a_forecast_adds_clean_pass_and_verification() -> None:
    assert suite_of("fgsm,pgd:steps=40", 100).passes == 100 * (1 + (1 + 2) + (1 + 81))


def test_an_attack_from_elsewhere_counts_with_its_verification() -> None:
    (plan,) = parse_attacks("fgsm")
    elsewhere = replace(plan, entry=replace(FGSM, passes=None))
    assert as_suite([elsewhere], "linf", "gradients", 10, 5).passes == 10 * 2


def test_endless_work_is_refused_before_it_starts() -> None:
    text = "pgd:steps=100000:restarts=1000"
    with pytest.raises(CostLimitError) as caught:
        suite_of(text, 1000)
    assert caught.value.exit_code == 3
    assert suite_of(text, 49).passes <= MAX_PASSES


def test_a_suite_that_could_not_run_cannot_be_made() -> None:
    good = suite_of("fgsm,pgd", 100)
    for change in ({"plans": ()}, {"norm": "l0"}, {"access": "scores"}):
        with pytest.raises(AttackSettingsError):
            replace(good, **change)
    with pytest.raises(CostLimitError):
        replace(good, n=10**9)
    with pytest.raises(FrozenInstanceError):
        good.n = 10**9  # type: ignore[misc]


def test_a_suite_is_taken_as_it_is_only_for_what_it_was_made_for() -> None:
    good = suite_of("fgsm,pgd", 100, classes=5)
    assert as_suite(good, "linf", "gradients", 100, 5) is good
    assert as_suite(good, "l2", "gradients", 100, 5) == replace(good, norm="l2")
    with pytest.raises(AttackSettingsError):
        as_suite(good, "linf", "labels", 100, 5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_protocol_stands_for_the_members_of_its_norm(norm: Norm) -> None:
    names = [plan.name for plan in parse_attacks("autoattack", norm)]
    assert names == ["apgd-ce", "apgd-t", "fab-t", "square"]
    targets = {plan.name: plan.settings.get("targets") for plan in parse_attacks("autoattack", norm)}
    assert targets["apgd-t"] == (5 if norm == "l1" else 9)


def test_a_protocol_that_its_norm_lacks_is_refused() -> None:
    with pytest.raises(AttackSettingsError):
        parse_attacks("plus", "l1")
    with pytest.raises(AttackSettingsError) as refused:
        parse_attacks("autoattack:steps=3")
    assert (refused.value.got, "docs/attacks.md" in refused.value.hint) == ("autoattack", True)


def test_plus_on_all_of_mnist_is_no_endless_work() -> None:
    assert suite_of("plus", 60_000, classes=10).passes <= MAX_PASSES
    with pytest.raises(CostLimitError):
        suite_of("plus", 60_000)


# --- an attack is one file and one name -------------------------------------------------------------------------------


def halfway(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    steps: int = 3,
    way: str = "up",
) -> Tensor:
    """Brighter by half of eps, or darker."""
    return (x + (budget.eps if way == "up" else -budget.eps) / 2).clamp(0, 1)


HALFWAY = AttackEntry(
    name="halfway",
    attack=halfway,
    norms=("linf",),
    knowledge="white-box",
    kind="budget",
    source="a test",
    limits={"steps": (1, 50)},
    choices={"way": ("up", "down")},
    passes=lambda settings, classes, norm: Passes(0, settings["steps"]),
    iterative=lambda settings: settings["steps"] > 1,
    counts_as=CountsAs(role="gradient", everywhere={"steps": 2}, near={"steps": 3}),
)


def test_an_attack_is_its_entry_and_its_name_in_the_tuple(
    cnn_case: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AttackSettingsError):
        parse_attacks("halfway")
    monkeypatch.setattr(catalogue, "ATTACKS", (*ATTACKS, HALFWAY))
    (plan,) = parse_attacks("halfway:way=down")
    assert plan.settings == {"steps": 3, "way": "down"}
    assert parse_attacks(str(plan)) == (plan,)
    for bad in ("halfway:steps=51", "halfway:way=left"):
        with pytest.raises(AttackSettingsError):
            parse_attacks(bad)
    assert suite_of("halfway", 100).passes == 100 * (1 + 1 + 3)
    assert "halfway" in catalogue.names()  # what the help and docs/attacks.md are compared with
    with pytest.raises(AttackSettingsError) as caught:
        parse_suite("halfway", "linf", "scores", 10, 5)
    assert "halfway" not in str(caught.value.expected)

    case, budget = cnn_case(20), PerturbationBudget("linf", 0.01)
    missing = []
    for text in ("halfway", "halfway:steps=1"):
        suite = parse_suite(f"{text},apgd-t,square:query_budget=4000", "linf", "gradients", 20, 5)
        result = run_suite(case.target, case.x, case.y, budget=budget, attacks=suite, seed=0)
        checks = {check.id: check for check in judge_suite(result).checks}
        missing.append(checks["suite-strength"].outcome)
    assert [outcome.value for outcome in missing] == ["pass", "fail"]


# --- names of random streams ------------------------------------------------------------------------------------------


def test_texts_of_attacks_do_not_change() -> None:
    """They name random streams: one that changes moves every published figure."""
    (plan,) = parse_attacks("apgd-ce")
    assert plan.text == "apgd-ce:eot_samples=1:radius_schedule=False:restarts=1:steps=100"
    texts = "|".join(str(plan) for norm in NORMS for plan in parse_attacks("fast", norm))
    texts += "|".join(str(plan) for name in sorted(NAMES) for plan in parse_attacks(name))
    assert hashlib.sha256(texts.encode()).hexdigest()[:16] == "0eb0b31d16ed9b21"
