from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import (
    AttackOutputError,
    AttackSettingsError,
    CostLimitError,
    ExtraMissingError,
    printable,
)
from secure_ai.red.evasion.attacks.art import ART_ATTACKS, OURS, art_class
from secure_ai.red.evasion.attacks.art_adapter import run_art
from secure_ai.red.evasion.attacks.pgd import pgd
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.judge import is_one_step

LINF = PerturbationBudget("linf", 0.05)
PGD = "art:ProjectedGradientDescent:max_iter=10:eps_step=0.0125"


# so few passes as break images that lie close to a boundary; what is not named does so by ART's defaults
QUICK = {
    "AutoConjugateGradient": "max_iter=10:nb_random_init=1",
    "AutoProjectedGradientDescent": "max_iter=10:nb_random_init=1",
    "BasicIterativeMethod": "max_iter=10",
    "BoundaryAttack": "max_iter=20:num_trial=5:sample_size=5",
    "CarliniL0Method": "max_iter=5:binary_search_steps=1:initial_const=10.0:learning_rate=0.5",
    "CarliniL2Method": "max_iter=5:binary_search_steps=3:initial_const=1.0",
    "CarliniLInfMethod": "max_iter=10:decrease_factor=0.5:const_factor=20.0:initial_const=0.1",
    "DeepFool": "max_iter=10",
    "ElasticNet": "max_iter=10:binary_search_steps=1:initial_const=10.0:learning_rate=0.1",
    "HopSkipJump": "max_iter=2:max_eval=50:init_eval=10",
    "MomentumIterativeMethod": "max_iter=10",
    "NewtonFool": "max_iter=20:eta=0.1",
    "PixelAttack": "th=60:max_iter=20",
    "ProjectedGradientDescent": "max_iter=10",
    "ProjectedGradientDescentNumpy": "max_iter=10",
    "ProjectedGradientDescentPyTorch": "max_iter=10",
    "RescalingAutoConjugateGradient": "max_iter=10:nb_random_init=1",
    "SignOPTAttack": "max_iter=5:query_limit=300",
    "SimBA": "max_iter=200:epsilon=0.2",
    "SpatialTransformation": "max_translation=30.0:num_translations=5:max_rotation=60.0:num_rotations=5",
    "SquareAttack": "max_iter=50",
    "ThresholdAttack": "th=128:max_iter=5",
    "UniversalPerturbation": "attacker=fgsm:max_iter=2:delta=0.01",
    "VirtualAdversarialMethod": "max_iter=5:finite_diff=0.01",
    "ZooAttack": "max_iter=20:binary_search_steps=1:nb_parallel=50:learning_rate=0.1:initial_const=10.0"
    ":use_resize=false:use_importance=false",
}


@pytest.fixture(scope="module", autouse=True)
def _art_is_installed() -> None:
    pytest.importorskip("art", reason="the extra `art`")


def plan_of(text: str) -> AttackPlan:
    (plan,) = parse_attacks(text)
    return plan


def call(plan: AttackPlan, case: Any, *, seed: int = 0, budget: PerturbationBudget = LINF, **more: Any) -> torch.Tensor:
    settings: dict[str, Any] = dict(plan.settings)
    with case.target.attacked():
        return plan.entry.attack(
            case.target, case.x, case.y, budget=budget, generator=torch.Generator().manual_seed(seed),
            **settings, **more
        )  # fmt: skip


@pytest.mark.parametrize("name", ART_ATTACKS)
def test_every_attack_of_the_table_runs_and_finds_what_is_near(cnn_case: Callable[..., Any], name: str) -> None:
    case, norms = cnn_case(2), ART_ATTACKS[name].norms
    budget = PerturbationBudget("l2", 5.0) if "l2" in norms else PerturbationBudget("linf", 0.5)
    plans = parse_attacks(f"art:{name}:{QUICK[name]}" if name in QUICK else f"art:{name}", budget.norm)
    (row,) = run_suite(case.target, case.x, case.y, budget=budget, attacks=plans, seed=0).rows
    assert (row.attempted, row.broken) == (2, 2)
    assert (row.backward_passes > 0) <= (row.plan.entry.knowledge == "white-box")
    if ART_ATTACKS[name].alone:  # then every call is about one sample
        assert row.queries is not None
        assert row.queries.max <= row.forward_passes == 2 * row.queries.mean + 2  # the harness verified two samples
    else:
        assert row.queries is None


def test_its_pgd_walks_where_ours_does(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(24)
    budget = PerturbationBudget("linf", 0.003)  # nobody is broken, so ours stops for nobody
    theirs = call(plan_of("art:ProjectedGradientDescent:max_iter=10:eps_step=0.00075"), case, budget=budget)
    with case.target.attacked():
        ours = pgd(
            case.target, case.x, case.y, budget=budget, generator=torch.Generator(), steps=10, random_start=False
        )
        held = case.target.predict(ours) == case.y
        losses = [
            torch.nn.functional.cross_entropy(case.target.logits(found), case.y, reduction="none")
            for found in (ours, theirs)
        ]
    assert held.sum() >= 20
    assert torch.allclose(losses[0][held], losses[1][held], rtol=1e-3, atol=1e-4)
    assert (theirs - case.x).abs().amax() <= budget.eps + 1e-6


def test_judged_by_the_harness_and_counted_by_the_target(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(16)
    plans = parse_attacks(f"{PGD},pgd:steps=10:random_start=false,art:HopSkipJump:max_iter=1:max_eval=20:init_eval=4")
    result = run_suite(case.target, case.x, case.y, budget=LINF, attacks=plans, seed=0, independent=True)
    theirs, ours, decision = result.rows
    assert abs(theirs.broken - ours.broken) <= 1
    assert theirs.broken > 0
    assert theirs.backward_passes == 16 * 10  # one gradient a step and sample: ART's passes went through the target
    assert decision.backward_passes == 0
    assert decision.forward_passes > 16
    assert [row.plan.entry.knowledge for row in result.rows] == ["white-box", "white-box", "decision-based"]
    assert parse_attacks(theirs.plan.text)[0].text == theirs.plan.text


@pytest.mark.parametrize(
    "text",
    [
        PGD + ":num_random_init=1",
        "art:SquareAttack:max_iter=5",
        "art:SimBA:max_iter=5",
        "art:HopSkipJump:max_iter=1:max_eval=20:init_eval=4",
        "art:BoundaryAttack:max_iter=2:num_trial=2:sample_size=2",
    ],
)
def test_a_result_depends_on_the_seed_and_not_on_who_is_active(cnn_case: Callable[..., Any], text: str) -> None:
    case, few = cnn_case(4), torch.tensor([True, False] * 2)
    plan = plan_of(text)
    everyone, again, other = call(plan, case), call(plan, case), call(plan, case, seed=1)
    assert torch.equal(everyone, again)
    assert not torch.equal(everyone, other)
    some = call(plan, case, active=few)
    assert torch.equal(some[few], everyone[few])
    assert torch.equal(some[~few], case.x[~few])
    case.target.batch_size = 3
    assert torch.allclose(call(plan, case), everyone, atol=1e-6)


def test_global_generators_are_left_as_they_were(cnn_case: Callable[..., Any], capfd: Any) -> None:
    np.random.seed(5), random.seed(5), torch.manual_seed(5)
    expected = np.random.rand(), random.random(), float(torch.rand(()))
    np.random.seed(5), random.seed(5), torch.manual_seed(5)
    call(plan_of(PGD + ":num_random_init=1"), cnn_case(8))
    assert (np.random.rand(), random.random(), float(torch.rand(()))) == expected
    assert np.random.RandomState.__module__ == "numpy.random.mtrand"
    assert capfd.readouterr() == ("", "")


def test_a_minimum_norm_attack_counts_only_within_eps(linear_case: Callable[..., Any]) -> None:
    case = linear_case("l2", 0.5, n=4)
    plans = parse_attacks("art:DeepFool:epsilon=0.02", "l2")
    broken = []
    for eps in (0.4, 0.6):  # the closest example is 0.5 away
        budget = PerturbationBudget("l2", eps)
        broken.append(run_suite(case.target, case.x, case.y, budget=budget, attacks=plans, seed=0).rows[0].broken)
    assert broken == [0, 4]


def test_a_target_label_is_aimed_at(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(32)
    budget = PerturbationBudget("linf", 0.3)
    plans = parse_attacks("art:BasicIterativeMethod:max_iter=10")
    result = run_suite(case.target, case.x, case.y, budget=budget, attacks=plans, seed=0, target_label=2)
    assert result.rows[0].broken >= 0.9 * result.rows[0].attempted > 0
    with pytest.raises(AttackSettingsError, match="cannot aim"):
        run_suite(case.target, case.x, case.y, budget=budget, attacks=parse_attacks("art:DeepFool"), seed=0,
                  target_label=2)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["__class__", "os.system", "evasion", "EvasionAttack", "DecisionTreeAttack", "Carlini\x00", "", "__init__", "np"],
)
def test_nothing_but_the_table_is_reached_by_name(name: str) -> None:
    with pytest.raises(AttackSettingsError) as refused:
        parse_attacks(f"art:{name}")
    assert refused.value.expected == printable(", ".join(ART_ATTACKS))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("art:ProjectedGradientDescend", "did you mean ProjectedGradientDescent"),
        ("art:DeepFool:max_itr=3", "did you mean max_iter"),
        ("art:DeepFool:max_iter", "no such setting"),
        ("art:DeepFool:max_iter=3:max_iter=4", "twice"),
        ("art:DeepFool:max_iter=3.5", "a whole number"),
        ("art:DeepFool:max_iter=-1", "a whole number"),
        ("art:DeepFool:epsilon=nan", "a number"),
        ("art:DeepFool:epsilon=1e9", "a number"),
        ("art:ProjectedGradientDescent:random_eps=1", "true or false"),
        ("art:ProjectedGradientDescent:eps=0.5", "the budget"),
        ("art:ProjectedGradientDescent:summary_writer=/tmp/x", "no such setting"),
        ("art:AutoProjectedGradientDescent:loss_type=a/b", "not a word"),
        ("art:DeepFool:__class__=3", "no such setting"),
    ],
)
def test_settings_outside_the_attacks_own_are_refused(text: str, says: str) -> None:
    with pytest.raises(AttackSettingsError) as caught:
        parse_attacks(text)
    assert says in f"{caught.value.message} {caught.value.expected} {caught.value.hint}"


def test_the_verdict_knows_one_step_from_many() -> None:
    assert is_one_step(plan_of("art:FastGradientMethod"))
    assert not is_one_step(plan_of(PGD))
    assert not is_one_step(plan_of("art:SaliencyMapMethod"))


def test_endless_work_is_refused() -> None:
    with pytest.raises(CostLimitError):
        parse_attacks("art:CarliniL2Method:max_iter=100000:binary_search_steps=1000")
    assert parse_attacks("art:CarliniL2Method:max_iter=1000:binary_search_steps=9")


def test_what_art_refuses_or_breaks_on_has_its_own_error(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(4)
    with pytest.raises(AttackSettingsError, match="refuses"):
        call(plan_of("art:SquareAttack:p_init=7.0"), case)

    class Broken:
        attack_params: tuple[str, ...] = ()

        def __init__(self, classifier: object) -> None:
            pass

        def generate(self, x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
            raise KeyError("oh")

    with pytest.raises(AttackOutputError) as caught:
        run_art(Broken, ART_ATTACKS["DeepFool"], case.target, case.x, case.y, budget=LINF, generator=torch.Generator())
    assert "KeyError" in str(caught.value.got)


def test_without_art_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "art.attacks", None)
    with pytest.raises(ExtraMissingError) as caught:
        parse_attacks("art:DeepFool")
    assert "'.[art]'" in caught.value.hint


def test_the_table_fits_art() -> None:
    from art.attacks.attack import EvasionAttack
    from art.estimators.classification.classifier import ClassGradientsMixin, LossGradientsMixin

    for name, row in ART_ATTACKS.items():
        attack = art_class(name)
        assert issubclass(attack, EvasionAttack)
        needs = {LossGradientsMixin, ClassGradientsMixin} & set(attack._estimator_requirements)
        assert not needs or row.knowledge == "white-box", name
        assert not set(plan_of(f"art:{name}").settings) & OURS
