"""The verdict: what makes a number doubtful or broken, and that honest numbers are left alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.trust import Check, CheckOutcome, Trust, Verdict
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import AttackEntry, AttackPlan
from secure_ai.red.evasion.suite.catalogue import ATTACKS, entry_named
from secure_ai.red.evasion.suite.harness import run_suite, score_examples
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.effort import ROLES
from secure_ai.red.evasion.trust.health import GradientHealth, gradient_health
from secure_ai.red.evasion.trust.judge import judge_examples, judge_suite

LINF = PerturbationBudget("linf", 0.02)
GOOD = GradientHealth(1000, 0, 0)


def of(trust: Trust, identifier: str) -> Check:
    (found,) = [check for check in trust.checks if check.id == identifier]
    return found


def run(case: Any, text: str = "fgsm,pgd:steps=5,noise", **options: Any) -> SuiteResult:
    options = {"budget": LINF, "attacks": parse_attacks(text), "seed": 0, **options}
    return run_suite(case.target, case.x, case.y, **options)


def member(name: str, knowledge: Any, stands_for: str, **settings: Any) -> AttackPlan:
    """A stand-in for an attack of that name."""
    row, real = entry_named(stands_for), entry_named(name)
    assert row is not None

    def attack(*arguments: Any, **keywords: Any) -> Tensor:
        found: Tensor = row.attack(*arguments, **{k: v for k, v in keywords.items() if k not in settings})
        return found

    entry = AttackEntry(
        name=name,
        attack=attack,
        norms=row.norms,
        knowledge=knowledge,
        kind="budget",
        source="test",
        counts_as=real.counts_as if real else None,
        iterative=real.iterative if real else row.iterative,
    )
    return AttackPlan(name, entry, settings)


STRONG = (
    member("apgd-ce", "white-box", "pgd", steps=100),
    member("apgd-t", "white-box", "pgd", steps=100, targets=5),
    member("square", "score-based", "noise", query_budget=4000, p_init=0.05),
)


def test_a_strong_suite_on_enough_samples_is_reliable(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(1000)
    trust = judge_suite(run(case, attacks=STRONG), gradients=GOOD)
    assert trust.verdict is Verdict.RELIABLE, trust.reasons


KINDS = tuple(ROLES.values())


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_each_member_is_needed(cnn_case: Callable[..., Any], missing: int) -> None:
    attacks = [plan for number, plan in enumerate(STRONG) if number != missing]
    trust = judge_suite(run(cnn_case(1000), attacks=attacks), gradients=GOOD)
    assert trust.verdict is Verdict.DOUBTFUL
    assert wanting(trust) == [KINDS[missing]]


def wanting(trust: Trust) -> list[str]:
    """The kinds of attack that `suite-strength` misses."""
    found = of(trust, "suite-strength")
    kinds = [kind for kind in KINDS if kind in found.evidence]
    assert (found.outcome is CheckOutcome.FAIL) == bool(kinds)
    return kinds


COUNTS = {entry.name: entry.counts_as for entry in ATTACKS if entry.counts_as}
KIND_OF = {name: ROLES[counts_as.role] for name, counts_as in COUNTS.items()}
LEAST = [
    (least, name, setting)
    for name, counts_as in COUNTS.items()
    for least in ("everywhere", "near")
    for setting in getattr(counts_as, least)
]


def left_standing(result: SuiteResult, text: str, **changes: Any) -> SuiteResult:
    """`result` as if, of ten classes, the attacks of `text` had broken nobody; all without `margin_left` were tried."""
    changes = {"num_classes": 10, **changes}
    plans = parse_attacks(text, changes.get("budget", LINF).norm)
    attempted = np.tile(np.array([plan.margin_left is None for plan in plans])[:, None], (1, len(result.robust)))
    return replace(result, plans=plans, rows=(), attempted=attempted, broken=np.zeros_like(attempted), **changes)


@pytest.mark.parametrize(("least", "name", "setting"), LEAST)
def test_every_least_effort_is_asked_for(cnn_case: Callable[..., Any], least: str, name: str, setting: str) -> None:
    """The attack exactly at its least counts, anything below in one setting does not."""
    others = [other for other in ("apgd-ce", "apgd-t", "square") if KIND_OF[other] != KIND_OF[name]]
    result = run(cnn_case(20))
    for share, missing in ((1.0, []), (0.9, [KIND_OF[name]])):
        values = {**getattr(COUNTS[name], least)}
        values[setting] *= share
        weak = ":".join([name, *(f"{key}={value if key == 'p_init' else int(value)}" for key, value in values.items())])
        near = f",{name}:margin_left=0.25" if least == "everywhere" else ""
        text = f"{','.join(others)},{weak}{near}"
        assert wanting(judge_suite(left_standing(result, text), gradients=GOOD)) == missing


NEAR_ONES = "apgd-ce:margin_left=0.25,apgd-t:targets=5:margin_left=0.25,square:query_budget=4000:margin_left=0.25"
SHORT = "apgd-ce:steps=10,apgd-t:steps=10:targets=3,square:query_budget=100"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("apgd-ce:steps=2,apgd-t:steps=1,square:query_budget=1", KINDS),
        (f"{SHORT},{NEAR_ONES}", ()),
        (f"{SHORT},{NEAR_ONES.replace('0.25', '0.24')}", KINDS),
        (f"noise,{NEAR_ONES},{SHORT}", KINDS),  # near to nobody: what counts as near is what ascents have left
        (SHORT, KINDS),
        ("apgd-ce,fab-t,square", ()),
        ("apgd-ce,apgd-t,hopskipjump", KINDS[2:]),
        ("apgd-ce,apgd-t,art:SquareAttack", KINDS[2:]),
        ("fast", ()),
        ("autoattack", ()),
        ("plus", ()),
        ("rand", KINDS[1:]),
    ],
)
def test_what_a_claim_needs_of_a_suite(cnn_case: Callable[..., Any], text: str, missing: tuple[str, ...]) -> None:
    assert wanting(judge_suite(left_standing(run(cnn_case(20)), text), gradients=GOOD)) == list(missing)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fast_and_autoattack_are_enough_in_every_norm_and_l1_asks_for_the_radius_schedule(
    cnn_case: Callable[..., Any], norm: Any
) -> None:
    result, budget = run(cnn_case(20)), PerturbationBudget(norm, 1.0)
    for text, missing in (("fast", []), ("autoattack", []), (f"{SHORT},apgd-ce,apgd-t,square", list(KINDS[:2]))):
        found = wanting(judge_suite(left_standing(result, text, budget=budget), gradients=GOOD))
        assert found == (missing if norm == "l1" else [])


@pytest.mark.parametrize(("num_classes", "enough"), [(2, True), (3, False)])
def test_with_few_classes_all_the_others_are_targets_enough(
    cnn_case: Callable[..., Any], num_classes: int, enough: bool
) -> None:
    result = left_standing(run(cnn_case(20)), "apgd-ce,apgd-t:targets=1,square", num_classes=num_classes)
    assert wanting(judge_suite(result, gradients=GOOD)) == ([] if enough else [KINDS[1]])


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("square,apgd-ce,apgd-t", KINDS[2:]),  # what it breaks is compared with nothing
        ("square,apgd-ce,apgd-t,square:query_budget=100", KINDS[2:]),
        ("apgd-ce:margin_left=0.5,square,apgd-ce,apgd-t", KINDS[2:]),
        ("apgd-ce,square,apgd-t", ()),
        ("apgd-t,square,apgd-ce", ()),
        ("square", KINDS[:2]),
        ("square:query_budget=100,apgd-ce,apgd-t,square", ()),
    ],
)
def test_an_attack_by_queries_counts_after_an_ascent(
    cnn_case: Callable[..., Any], text: str, missing: tuple[str, ...]
) -> None:
    result = left_standing(run(cnn_case(20)), text)
    assert wanting(judge_suite(result, gradients=GOOD)) == list(missing)
    together = replace(result, independent=True, attempted=np.ones_like(result.attempted))
    assert wanting(judge_suite(together, gradients=GOOD)) == [kind for kind in missing if kind != KINDS[2]]


def test_a_suite_that_aims_at_one_class_is_not_enough(cnn_case: Callable[..., Any]) -> None:
    result = run(cnn_case(20), "fgsm", target_label=1)
    found = of(judge_suite(left_standing(result, "autoattack"), gradients=GOOD), "suite-strength")
    assert found.outcome is CheckOutcome.FAIL
    assert "only class 1" in found.evidence
    assert wanting(judge_suite(left_standing(replace(result, target_label=None), "autoattack"))) == []


def test_independent_attacks_work_on_everyone_whatever_their_margin_left(cnn_case: Callable[..., Any]) -> None:
    result = left_standing(run(cnn_case(20)), "apgd-ce:margin_left=0.1,apgd-t,square", independent=True)
    result = replace(result, attempted=np.ones_like(result.attempted))
    assert wanting(judge_suite(result, gradients=GOOD)) == []


@pytest.mark.parametrize(("share", "counts"), [(1e-6, False), (1e6, True)])
def test_a_member_that_was_kept_from_the_samples_left_does_not_count(
    share: float, counts: bool, cnn_case: Callable[..., Any]
) -> None:
    attacks = [*STRONG[:2], replace(STRONG[2], margin_left=share)]
    result = run(cnn_case(40), attacks=attacks)
    assert result.robust.any()
    assert wanting(judge_suite(result, gradients=GOOD)) == ([] if counts else [KINDS[2]])


def test_noise_is_no_black_box_attack(cnn_case: Callable[..., Any]) -> None:
    attacks = [*STRONG[:2], *parse_attacks("noise")]
    assert wanting(judge_suite(run(cnn_case(20), attacks=attacks))) == [KINDS[2]]


def test_too_few_samples_are_doubtful(cnn_case: Callable[..., Any]) -> None:
    trust = judge_suite(run(cnn_case(999), attacks=STRONG), gradients=GOOD)
    assert trust.verdict is Verdict.DOUBTFUL
    assert trust.reasons == ["n = 999; a claim needs n >= 1000"]


def test_examples_of_another_network_break_the_number(cnn_case: Callable[..., Any]) -> None:
    result = run(cnn_case(50))
    trust = judge_suite(result, model_digest="e" * 64)
    assert trust.verdict is Verdict.BROKEN
    digests = re.findall(r"\b([de])\1{11}\b", of(trust, "made-for-another-network").evidence)
    assert digests == ["d", "e"]  # made for the one, claimed for the other
    assert judge_suite(result, model_digest="d" * 64).verdict is not Verdict.BROKEN


@pytest.mark.parametrize(
    ("made_for", "outcome", "verdict"),
    [
        ("e" * 64, CheckOutcome.FAIL, Verdict.BROKEN),
        ("d" * 64, CheckOutcome.PASS, Verdict.DOUBTFUL),
        ("", CheckOutcome.NOT_RUN, Verdict.DOUBTFUL),
    ],
)
def test_saved_examples_are_judged_by_their_origin(
    cnn_case: Callable[..., Any], made_for: str, outcome: CheckOutcome, verdict: Verdict
) -> None:
    case = cnn_case(30)
    score = score_examples(case.target, case.x, case.y, case.x, budget=LINF, made_for=made_for)
    trust = judge_examples(score)
    assert of(trust, "made-for-another-network").outcome is outcome
    assert trust.verdict is verdict


@pytest.mark.parametrize(
    ("text", "ok"),
    [("fgsm", False), ("fgsm,noise:draws=5", False), ("pgd:steps=1", False), ("pgd:steps=2", True), ("fgsm,pgd", True)],
)
def test_one_step_only(cnn_case: Callable[..., Any], text: str, ok: bool) -> None:
    trust = judge_suite(run(cnn_case(30), text))
    assert (of(trust, "one-step-only").outcome is CheckOutcome.PASS) is ok
    assert trust.verdict is Verdict.DOUBTFUL


def test_an_incomplete_suite_is_doubtful_and_says_so(cnn_case: Callable[..., Any]) -> None:
    calls = iter(range(100))
    trust = judge_suite(run(cnn_case(600), stop=lambda: next(calls) >= 4))
    assert of(trust, "complete").outcome is CheckOutcome.FAIL
    assert "256 of 600 samples" in of(trust, "complete").evidence


class Staircase(nn.Module):
    """Rounds the pixels: not more robust, but its gradient is zero."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(torch.round(x * 255) / 255)
        return logits


class Detached(Staircase):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x.detach())
        return logits


class Broken(Staircase):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x) + 0 * torch.sqrt(x - x).sum(dim=(1, 2, 3))[:, None]
        return logits


class Saturated(Staircase):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = 1e6 * self.network(x)
        return logits


@pytest.mark.parametrize("mask", [Staircase, Detached, Broken, Saturated])
def test_masked_gradients_are_flagged(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget], mask: type[Staircase]
) -> None:
    case = cnn_case(100)
    target = target_of(mask(case.target.network), case.x, 5)
    health = gradient_health(target, case.x, case.y)
    found = of(judge_suite(run(case), gradients=health), "zero-gradients")
    assert found.outcome is CheckOutcome.FAIL
    assert f"of {health.n} correct samples {health.zero} " in found.evidence


def test_honest_gradients_are_not_flagged(cnn_case: Callable[..., Any]) -> None:
    for scale in (1.0, 30.0):
        case = cnn_case(100, scale=scale)
        health = gradient_health(case.target, case.x, case.y)
        assert health == GradientHealth(100, 0, 0)
        assert of(judge_suite(run(case), gradients=health), "zero-gradients").outcome is CheckOutcome.PASS


def test_gradients_are_counted_on_correct_samples_and_three_useless_ones_are_too_many(
    cnn_case: Callable[..., Any],
) -> None:
    case = cnn_case(100)
    y = torch.where(torch.arange(100) < 40, (case.y + 1) % 5, case.y)
    assert gradient_health(case.target, case.x, y).n == 60
    result = run(case)
    for useless, outcome in ((2, CheckOutcome.PASS), (3, CheckOutcome.FAIL)):
        for health in (GradientHealth(100, useless, 0), GradientHealth(100, 0, useless)):
            assert of(judge_suite(result, gradients=health), "zero-gradients").outcome is outcome
    for nothing in (None, GradientHealth(0, 0, 0)):
        assert of(judge_suite(result, gradients=nothing), "zero-gradients").outcome is CheckOutcome.NOT_RUN


def test_gradient_health_costs_one_pass_each_way_and_leaves_the_model_alone(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(30)
    gradient_health(case.target, case.x, case.y)
    assert (case.target.passes.forward, case.target.passes.backward) == (30, 30)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in case.target.network.parameters())


def test_attacks_that_give_the_clean_images_back_are_doubtful(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(50)
    blind = replace(case, target=target_of(Detached(case.target.network), case.x, 5))
    assert of(judge_suite(run(blind)), "attempts-moved").outcome is CheckOutcome.FAIL
    assert "fgsm gave 50 of 50 " in of(judge_suite(run(blind)), "attempts-moved").evidence
    assert of(judge_suite(run(case)), "attempts-moved").outcome is CheckOutcome.PASS
    zero = run(case, budget=PerturbationBudget("linf", 0.0))
    assert of(judge_suite(zero), "attempts-moved").outcome is CheckOutcome.NOT_RUN


def test_one_blind_attack_is_not_hidden_by_the_others(cnn_case: Callable[..., Any]) -> None:
    result = run(cnn_case(20))
    fgsm, pgd, noise = result.rows
    rows = (replace(fgsm, attempted=1000, unmoved=10), replace(pgd, attempted=100, unmoved=11), noise)
    found = of(judge_suite(replace(result, rows=rows)), "attempts-moved")
    assert found.outcome is CheckOutcome.FAIL
    assert "pgd gave 11 of 100 " in found.evidence
    assert "fgsm" not in found.evidence
    rows = (replace(fgsm, attempted=1000, unmoved=100), replace(pgd, attempted=100, unmoved=10), noise)
    assert of(judge_suite(replace(result, rows=rows)), "attempts-moved").outcome is CheckOutcome.PASS


def outcome_table(result: SuiteResult, broken: list[list[int]], n: int) -> SuiteResult:
    """`result` as if each attack had broken the listed samples of `n`."""
    table = np.zeros((len(result.plans), n), dtype=bool)
    for row, samples in enumerate(broken):
        table[row, samples] = True
    return replace(result, attempted=np.ones_like(table), broken=table, eligible=np.ones(n, dtype=bool))


@pytest.mark.parametrize("identifier", ["one-step-beats-many", "black-box-beats-white-box"])
@pytest.mark.parametrize(
    ("extra", "n", "outcome"),
    [(0, 100, "pass"), (1, 184, "pass"), (2, 20, "pass"), (3, 1000, "pass"), (3, 100, "fail"), (30, 100, "fail")],
)
def test_the_weaker_attack_must_not_win(
    cnn_case: Callable[..., Any], identifier: str, extra: int, n: int, outcome: str
) -> None:
    text = "pgd:steps=5,fgsm" if identifier == "one-step-beats-many" else "pgd:steps=5,noise"
    result = run(cnn_case(20), text, independent=True)
    common = list(range(50, 60))
    worse = (
        outcome_table(result, [common, [*common, *range(extra)]], n)
        if n > 60
        else outcome_table(result, [[], list(range(extra))], n)
    )
    found = of(judge_suite(worse), identifier)
    assert found.outcome.value == outcome
    assert f"broke {extra} samples" in found.evidence
    assert found.evidence.endswith(f"of {n}")
    better = outcome_table(result, [list(range(20)), list(range(5))], n)
    assert of(judge_suite(better), identifier).outcome is CheckOutcome.PASS


def test_a_weaker_attack_that_worked_on_no_survivor_says_nothing(cnn_case: Callable[..., Any]) -> None:
    result = run(cnn_case(20), "pgd:steps=5,noise:margin_left=0", budget=PerturbationBudget("linf", 0.001))
    assert not result.broken.all()
    assert not result.attempted[1].any()
    assert of(judge_suite(result), "black-box-beats-white-box").outcome is CheckOutcome.NOT_RUN


def test_attacks_on_different_samples_are_not_compared(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(100)
    assert of(judge_suite(run(case, "fgsm,pgd:steps=5")), "one-step-beats-many").outcome is CheckOutcome.NOT_RUN
    assert of(judge_suite(run(case, "pgd:steps=5,fgsm")), "one-step-beats-many").outcome is CheckOutcome.PASS
    independent = run(case, "fgsm,pgd:steps=5", independent=True)
    assert of(judge_suite(independent), "one-step-beats-many").outcome is CheckOutcome.PASS
    assert of(judge_suite(run(case, "pgd")), "black-box-beats-white-box").outcome is CheckOutcome.NOT_RUN


@pytest.mark.parametrize("after", ["", ",noise"])
@pytest.mark.parametrize(("extra", "outcome"), [(0, "pass"), (2, "pass"), (30, "fail")])
@pytest.mark.parametrize(
    ("identifier", "weak"), [("black-box-beats-white-box", "square"), ("one-step-beats-many", "fgsm")]
)
def test_a_weaker_attack_is_compared_with_what_came_before_it(
    cnn_case: Callable[..., Any], identifier: str, weak: str, extra: int, outcome: str, after: str
) -> None:
    """As in AutoAttack `plus`, where Square is the fourth of six; what is listed after changes nothing."""
    result = run(cnn_case(20), f"pgd:steps=5,{weak},pgd:steps=6{after}")
    table = [[50], list(range(extra)), [60], []][: len(result.plans)]
    found = of(judge_suite(outcome_table(result, table, 100)), identifier)
    assert found.outcome.value == outcome
    assert f"broke {extra} samples" in found.evidence
    assert ("pgd (no. 3)" in found.evidence) is (outcome == "fail")


def test_a_weaker_attack_before_all_stronger_ones_says_nothing(cnn_case: Callable[..., Any]) -> None:
    result = run(cnn_case(20), "square:query_budget=1,pgd:steps=5")
    found = of(judge_suite(outcome_table(result, [list(range(30)), []], 100)), "black-box-beats-white-box")
    assert found.outcome is CheckOutcome.NOT_RUN


def test_noise_that_beats_a_masked_model_is_seen(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    """No start inside the ball and no gradient: PGD stays at the clean image, and noise does better."""
    case = cnn_case(300)
    masked = replace(case, target=target_of(Detached(case.target.network), case.x, 5))
    text, wide = "pgd:steps=3:random_start=false,noise:draws=50", PerturbationBudget("linf", 0.3)
    assert of(judge_suite(run(masked, text, budget=wide)), "black-box-beats-white-box").outcome is CheckOutcome.FAIL
    assert of(judge_suite(run(case, text, budget=wide)), "black-box-beats-white-box").outcome is CheckOutcome.PASS


def test_steps_along_a_mix_of_logits_are_steps() -> None:
    short, one = parse_attacks("odi-pgd:steps=1,odi-pgd:steps=1:odi_steps=0")
    assert short.iterative
    assert not one.iterative
