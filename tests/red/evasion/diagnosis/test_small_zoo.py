"""A small zoo: every planted broken defence is flagged by the check made for it, and no honest network by any."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from secure_ai.core.trust import CheckOutcome, Trust, Verdict

pytestmark = pytest.mark.usefixtures("smaller_probes")
EPS = 0.1
HONEST = [
    ("mlp", 0.05),
    ("mlp", 0.2),
    ("mlp-pgd-0.1", 0.1),
    ("mlp-pgd-0.2", 0.2),
    ("strided", 0.05),
    ("strided", 0.2),
    ("strided-pgd-0.1", 0.1),
    ("strided-pgd-0.2", 0.2),
    ("strided-pgd-0.2", 0.05),
    ("report1-cnn", 0.1),
]
PLANTED = {
    "Quantised": {"zero-gradients", "step-function"},
    "Scaled": {"saturated-loss"},
    "Shattered": {"gradient-matches-change"},
    "Noisy": {"random-without-eot"},
    "RandomResize": {"random-without-eot"},
    "Detached": {"zero-gradients", "unbounded-attack", "loss-rises", "gradients-along-attack"},
    "NanGradient": {"zero-gradients", "gradients-along-attack"},
    "Decoy": {"gradient-matches-change"},
    "Purified": {"optimises-inside"},
}
"""Defence -> the checks that must fail; others may."""


def failed(trust: Trust) -> set[str]:
    return {check.id for check in trust.checks if check.outcome is CheckOutcome.FAIL}


@pytest.mark.parametrize(("name", "eps"), HONEST)
def test_an_honest_network_is_not_flagged(small_zoo: Any, name: str, eps: float) -> None:
    trust = small_zoo.judged(small_zoo.networks[name], eps)
    assert failed(trust) <= {"sample-size", "suite-strength"}, trust.reasons  # a test has few images and short attacks


def planted(small_zoo: Any, name: str) -> nn.Module:
    arguments: dict[str, dict[str, Any]] = {
        "Shattered": {"seed": 1},
        "Purified": {"steps": 1},
        "Decoy": {"seed": 1},
        "Scaled": {"factor": 1e4},
        "Quantised": {"levels": 5},
    }
    defence: nn.Module = getattr(small_zoo.defences, name)(small_zoo.networks["strided"], **arguments.get(name, {}))
    return defence.eval()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defence_is_flagged_by_the_check_made_for_it(small_zoo: Any, name: str) -> None:
    trust = small_zoo.judged(planted(small_zoo, name), EPS)
    assert trust.verdict is not Verdict.RELIABLE
    assert PLANTED[name] <= failed(trust)


def test_examples_of_another_network_are_flagged(small_zoo: Any) -> None:
    from secure_ai.core.budget import PerturbationBudget
    from secure_ai.red.evasion.suite.harness import run_suite, score_examples
    from secure_ai.red.evasion.suite.parse import parse_attacks
    from secure_ai.red.evasion.trust.judge import judge_examples

    x, y, budget = small_zoo.data.images[:40], small_zoo.data.labels[:40], PerturbationBudget("linf", EPS)
    donor = small_zoo.target(small_zoo.networks["mlp"], "e" * 64)
    made = run_suite(donor, x, y, budget=budget, attacks=parse_attacks("fgsm"), seed=0, keep_examples=True)
    assert made.x_adv is not None
    target = small_zoo.target(small_zoo.networks["strided"])
    score = score_examples(target, made.x_adv, y, x, budget=budget, made_for=made.model_digest)
    assert judge_examples(score).verdict is Verdict.BROKEN


def test_averaging_over_randomness_answers_that_check(small_zoo: Any) -> None:
    suite = "apgd-ce:steps=5:eot_samples=4,apgd-t:steps=5:targets=1,square:query_budget=20"
    trust = small_zoo.judged(planted(small_zoo, "Noisy"), EPS, suite)
    assert "random-without-eot" not in failed(trust)
