"""Examples made elsewhere: on a surrogate whose answer is known, and from a lookup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import AttackSettingsError
from secure_ai.core.trust import CheckOutcome, Verdict
from secure_ai.models.target.access import Access
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.saved_examples import image_key
from secure_ai.red.evasion.attacks.transfer import transfer
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.suite.borrowed import bind_borrowed, names_transfer
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks, parse_suite
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.judge import judge_suite

STEPS = 5


class Linear(nn.Module):
    """Two classes by the sign of w·x + b; `masked` cuts the gradient on the way."""

    def __init__(self, weight: Tensor, bias: float, masked: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias, self.masked = bias, masked

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        score = (flat.detach() + 0 * flat if self.masked else flat) @ self.weight + self.bias
        return torch.stack([-score / 2, score / 2], dim=1)


@pytest.fixture
def copy_of(target_of: Callable[..., NetworkTarget]) -> Callable[..., NetworkTarget]:
    def make(case: Any, *, masked: bool = False, digest: str = "e" * 64) -> NetworkTarget:
        network = case.target.network
        return target_of(Linear(network.weight.detach().clone(), network.bias, masked), case.x, 2, digest=digest)

    return make


def suite(
    target: NetworkTarget, case: Any, text: str, eps: float, network: NetworkTarget | None, norm: str = "linf"
) -> SuiteResult:
    budget = PerturbationBudget(norm, eps)  # type: ignore[arg-type]
    plans = bind_borrowed(parse_attacks(text, budget.norm), network=network)
    return run_suite(target, case.x, case.y, budget=budget, attacks=plans, seed=1)


@pytest.mark.parametrize(("norm", "optimum"), [("linf", 0.05), ("l2", 0.6), ("l1", 0.4)])
def test_on_an_equal_surrogate_it_succeeds_exactly_beyond_the_known_distance(
    norm: str, optimum: float, linear_case: Callable[..., Any], copy_of: Callable[..., NetworkTarget]
) -> None:
    case = linear_case(norm, optimum)
    network = copy_of(case)
    text = "transfer:steps=60"
    assert suite(case.target, case, text, 1.1 * optimum, network, norm).robust_accuracy.successes == 0
    assert suite(case.target, case, text, 0.9 * optimum, network, norm).robust_accuracy.successes == len(case.y)


def test_a_surrogate_that_points_the_other_way_fools_nobody(linear_case: Callable[..., Any], target_of: Any) -> None:
    case = linear_case("linf", 0.05)
    weight = case.target.network.weight.detach()
    flipped = target_of(Linear(-weight, -case.target.network.bias), case.x, 2, digest="f" * 64)
    assert suite(case.target, case, f"transfer:steps={STEPS}", 0.2, flipped).robust_accuracy.value == 1.0


def test_the_passes_are_the_surrogates_own(
    linear_case: Callable[..., Any], copy_of: Callable[..., NetworkTarget]
) -> None:
    case = linear_case("linf", 0.05)
    network, budget = copy_of(case), PerturbationBudget("linf", 0.1)
    settings: dict[str, Any] = {"budget": budget, "generator": torch.Generator().manual_seed(0), "network": network}
    transfer(case.target, case.x, case.y, steps=STEPS, restarts=2, **settings)
    n = len(case.y)
    assert (case.target.passes.forward, case.target.passes.backward) == (0, 0)
    assert (network.passes.forward, network.passes.backward) == (2 * n * (STEPS + 1), 2 * n * STEPS)
    row = suite(case.target, case, f"transfer:steps={STEPS}", 0.1, network).rows[0]
    assert (row.forward_passes, row.backward_passes) == (n, 0)  # the verification


def test_the_surrogate_is_left_as_it_was(
    linear_case: Callable[..., Any], copy_of: Callable[..., NetworkTarget]
) -> None:
    case = linear_case("linf", 0.05)
    network = copy_of(case)
    network.network.train()
    suite(case.target, case, f"transfer:steps={STEPS}", 0.1, network)
    assert network.network.training
    assert all(parameter.requires_grad for parameter in network.network.parameters())


def test_the_same_examples_whatever_the_batch(cnn_case: Callable[..., Any]) -> None:
    whole, small = cnn_case(n=300), cnn_case(n=300, batch_size=17)
    budget = PerturbationBudget("linf", 0.1)
    found = []
    for case in (whole, small):
        plans = bind_borrowed(parse_attacks(f"transfer:steps={STEPS}"), network=case.target)
        found.append(run_suite(case.target, case.x, case.y, budget=budget, attacks=plans, seed=1, keep_examples=True))
    first, second = found
    assert first.x_adv is not None
    assert second.x_adv is not None
    assert abs(first.x_adv - second.x_adv).max() <= 1e-6
    assert len(first.shard_digests) == 2


def test_shard_digests_are_equal_only_for_equal_examples(cnn_case: Callable[..., Any]) -> None:
    case, budget = cnn_case(n=300), PerturbationBudget("linf", 0.1)
    plans = parse_attacks("pgd:steps=2")
    first, again, other = (
        run_suite(case.target, case.x, case.y, budget=budget, attacks=plans, seed=seed).shard_digests
        for seed in (1, 1, 2)
    )
    assert first == again
    assert not set(first) & set(other)


def test_a_transfer_unmasks_a_network_without_gradients(
    linear_case: Callable[..., Any], copy_of: Callable[..., NetworkTarget]
) -> None:
    case = linear_case("linf", 0.05, 60)
    masked = copy_of(case, masked=True, digest="a" * 64)
    text = f"pgd:steps={STEPS},transfer:steps=40"

    def outcome(target: NetworkTarget) -> CheckOutcome:
        checks = judge_suite(suite(target, case, text, 0.07, copy_of(case))).checks
        return next(check.outcome for check in checks if check.id == "black-box-beats-white-box")

    assert outcome(masked) is CheckOutcome.FAIL
    assert outcome(case.target) is not CheckOutcome.FAIL


def test_transferred_examples_alone_are_no_robust_accuracy(
    linear_case: Callable[..., Any], copy_of: Callable[..., NetworkTarget]
) -> None:
    case = linear_case("linf", 0.05)
    result = suite(case.target, case, f"transfer:steps={STEPS}", 0.1, copy_of(case))
    assert judge_suite(result).verdict is Verdict.BROKEN
    same = copy_of(case, digest=case.target.digest)
    assert judge_suite(suite(case.target, case, "transfer:steps=5", 0.1, same)).verdict is Verdict.DOUBTFUL
    with_own = suite(case.target, case, "transfer:steps=5,fgsm", 0.1, copy_of(case))
    assert judge_suite(with_own).verdict is Verdict.DOUBTFUL
    assert not any(plan.iterative for plan in result.plans)


def test_the_plan_names_the_surrogate(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case()
    unbound = parse_attacks("fgsm,transfer:steps=7:momentum=0.5")
    assert names_transfer(unbound)
    assert not names_transfer(parse_attacks("fgsm"))
    fgsm, bound = bind_borrowed(unbound, network=case.target)
    assert fgsm == unbound[0]
    assert bound.text == f"transfer:momentum=0.5:restarts=1:steps=7:surrogate={'d' * 12}"
    assert bound.entry.knowledge == "transfer"


@pytest.mark.parametrize(
    "text", ["transfer:steps=0", "transfer:momentum=2", "transfer:surrogate=x", "examples", "transfer,transfer"]
)
def test_settings_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(AttackSettingsError):
        parse_attacks(text)


def test_without_a_surrogate_it_is_refused(cnn_case: Callable[..., Any]) -> None:
    plans = parse_attacks("transfer")
    with pytest.raises(AttackSettingsError, match="surrogate"):
        bind_borrowed(plans, network=None)
    case = cnn_case()
    with pytest.raises(AttackSettingsError):
        run_suite(case.target, case.x, case.y, budget=PerturbationBudget("linf", 0.1), attacks=plans, seed=0)
    with pytest.raises(AttackSettingsError) as refused:
        bind_borrowed(parse_attacks("examples:a.npz"), network=None)
    assert refused.value.got == "examples:file=a.npz"


def test_its_cost_is_known_before_and_after_binding(cnn_case: Callable[..., Any]) -> None:
    suite = parse_suite("transfer:steps=10:restarts=3", "linf", "gradients", 100, 5)
    assert suite.passes == 100 * (1 + 1 + 3 * 21)
    bound = replace(suite, plans=bind_borrowed(suite.plans, network=cnn_case().target))
    assert bound.passes == suite.passes


def bound_examples(lookup: dict[bytes, Tensor], made_for: str) -> AttackPlan:
    (plan,) = bind_borrowed(parse_attacks("examples:some/a=b.npz"), network=None, read=lambda file: (lookup, made_for))
    return plan


def test_saved_examples_are_found_by_their_image(linear_case: Callable[..., Any]) -> None:
    case, budget = linear_case("linf", 0.05), PerturbationBudget("linf", 0.1)
    made = run_suite(
        case.target, case.x, case.y, budget=budget, attacks=parse_attacks("pgd"), seed=0, keep_examples=True
    )
    assert made.x_adv is not None
    lookup = {image_key(x): torch.from_numpy(a.copy()) for x, a in zip(case.x, made.x_adv, strict=True)}
    plan = bound_examples(lookup, "d" * 64)
    assert plan.bound == {"file": "some/a=b.npz", "made_for": "d" * 12}
    order = torch.arange(len(case.y)).flip(0)
    scored = run_suite(case.target, case.x[order], case.y, budget=budget, attacks=[plan], seed=9)
    assert scored.robust_accuracy.successes == made.robust_accuracy.successes == 0
    smaller = run_suite(case.target, case.x, case.y, budget=PerturbationBudget("linf", 0.09), attacks=[plan], seed=9)
    assert smaller.robust_accuracy.value == 1.0  # they lie outside of it, and count for nothing
    nothing = run_suite(case.target, case.x, case.y, budget=budget, attacks=[bound_examples({}, "")], seed=9)
    assert nothing.robust_accuracy.value == 1.0
    assert nothing.rows[0].unmoved == len(case.y)


@pytest.mark.parametrize("access", ["scores", "labels"])
def test_a_surrogate_without_gradients_is_refused(
    linear_case: Callable[..., Any], copy_of: Callable[..., NetworkTarget], access: str
) -> None:
    case = linear_case("linf", 0.05)
    surrogate = copy_of(case)
    surrogate.access = cast(Access, access)
    with pytest.raises(AttackSettingsError) as refused:
        suite(case.target, case, "transfer", 0.1, surrogate)
    assert (refused.value.expected, refused.value.got) == ("gradients", access)


@pytest.mark.parametrize(
    ("own", "outcome"), [("noise", CheckOutcome.FAIL), ("square:query_budget=5", CheckOutcome.PASS)]
)
def test_noise_beside_foreign_examples_makes_the_number_no_less_foreign(
    linear_case: Callable[..., Any], copy_of: Callable[..., NetworkTarget], own: str, outcome: CheckOutcome
) -> None:
    case = linear_case("linf", 0.05)
    plans = (*bind_borrowed(parse_attacks("transfer:steps=5", "linf"), network=copy_of(case)), *parse_attacks(own))
    result = run_suite(case.target, case.x, case.y, budget=PerturbationBudget("linf", 0.1), attacks=plans, seed=1)
    found = next(check for check in judge_suite(result).checks if check.id == "made-for-another-network")
    assert found.outcome is outcome


@pytest.mark.parametrize("foreign_first", [True, False])
def test_of_several_origins_a_foreign_one_decides(
    linear_case: Callable[..., Any], copy_of: Callable[..., NetworkTarget], foreign_first: bool
) -> None:
    case = linear_case("linf", 0.05)
    networks = [copy_of(case), copy_of(case, digest=case.target.digest)]
    budget, texts = PerturbationBudget("linf", 0.1), ("transfer:steps=5", "transfer:steps=6")
    plans = [
        bind_borrowed(parse_attacks(text, "linf"), network=network)[0]
        for text, network in zip(texts, networks if foreign_first else networks[::-1], strict=True)
    ]
    result = run_suite(case.target, case.x, case.y, budget=budget, attacks=tuple(plans), seed=1)
    evidence = next(check.evidence for check in judge_suite(result).checks if check.id == "made-for-another-network")
    assert "network eeeeeeeeeeee" in evidence
