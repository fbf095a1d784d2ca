"""May a robust accuracy be believed? Named checks over what a suite of attacks measured.

Every sentence of evidence is made from the numbers that decided it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from secure_ai.core.statistics import BEYOND_CHANCE, beyond_chance
from secure_ai.core.trust import Check, Trust, check, judge, sample_size_check
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.suite.access import access_check
from secure_ai.red.evasion.suite.borrowed import DIGEST_CHARACTERS
from secure_ai.red.evasion.suite.result import ExamplesScore, SuiteResult
from secure_ai.red.evasion.trust.effort import strength_check
from secure_ai.red.evasion.trust.health import GradientHealth
from secure_ai.red.evasion.trust.required import BREAKING, required_check

MOST_UNMOVED = 0.10  # share of attempts that came back as they went; zoo A: honest 0, blind from 0.4


def is_one_step(plan: AttackPlan) -> bool:
    """A white-box attack that takes one gradient step."""
    return plan.entry.knowledge == "white-box" and not plan.iterative


def judge_suite(
    result: SuiteResult,
    *,
    model_digest: str | None = None,
    gradients: GradientHealth | None = None,
    more: Sequence[Check] = (),
) -> Trust:
    """The verdict on the robust accuracy of a suite.

    `reliable` needs APGD-CE, a targeted margin attack and a black-box attack, each with at least the effort of `fast`
    (`strength.py`), on 1,000 samples or more.

    Args:
        model_digest: of the network that the number is claimed for; None: the one that was attacked.
        gradients: measured at the clean images; None: that check is not run.
        more: checks made elsewhere that this number depends on, such as preflight's.
    """
    names = [plan.text for plan in result.plans if plan.iterative]
    checks = [
        sample_size_check(result.n),
        check(
            "complete",
            result.complete,
            f"{result.n} of {len(result.evaluated)} samples went through all {len(result.plans)} attacks",
        ),
        _origin(_made_for(result), model_digest or result.model_digest),
        check(
            "one-step-only",
            bool(names),
            f"{len(names)} of {len(result.plans)} attacks take more than one step on this network: "
            f"{', '.join(names) or 'none'}",
        ),
        _beats(result, "one-step-beats-many", is_one_step, lambda p: p.entry.knowledge == "white-box"),
        _beats(
            result,
            "black-box-beats-white-box",
            lambda plan: plan.entry.knowledge != "white-box",
            lambda plan: plan.entry.knowledge == "white-box",
        ),
        _gradients(gradients),
        _moved(result),
        strength_check(result),
        access_check(result.access),
        *more,
    ]
    return judge([*checks, required_check(checks, result.budget)], breaking=BREAKING)


def judge_examples(score: ExamplesScore) -> Trust:
    """The verdict on an accuracy under saved examples: broken as robustness if they were made for another network."""
    strength = check("suite-strength", False, f"{score.n} saved examples are one fixed attempt a sample, not a suite")
    return judge([sample_size_check(score.n), _origin(score.made_for, score.model_digest), strength], breaking=BREAKING)


def _made_for(result: SuiteResult) -> str:
    """Of which network the examples are: the attacked one's digest where an attack worked on it; else a foreign one's.

    Where several networks' examples were borrowed, one that is not the attacked one decides; empty where unknown.
    """
    own = result.model_digest
    if any(plan.entry.knowledge not in ("transfer", "none") for plan in result.plans):  # noise looks at no network
        return own
    origins = {plan.bound.get("made_for") or plan.bound.get("surrogate") or "" for plan in result.plans}
    return max(origins - {own[:DIGEST_CHARACTERS]}, default=own)


def _origin(made_for: str, claimed_for: str) -> Check:
    identifier = "made-for-another-network"
    if not made_for:
        return check(identifier, None, "the examples do not say which network they were made for")
    if not claimed_for:
        return check(identifier, None, "a callable has no digest: the examples may be of another network")
    made, claimed = made_for[:DIGEST_CHARACTERS], claimed_for[:DIGEST_CHARACTERS]
    if made_for == claimed_for:
        return check(identifier, True, f"the examples were made for the network under test, {made}")
    return check(
        identifier, False, f"the examples were made for network {made}, the number is claimed for {claimed}: a transfer"
    )


def _beats(
    result: SuiteResult, identifier: str, weak: Callable[[AttackPlan], bool], strong: Callable[[AttackPlan], bool]
) -> Check:
    """Fails when attacks that ought to be weaker break samples that stronger ones were tried on and failed.

    A weak attack tells something only on samples that strong ones had, too: it is compared with those before it, or
    with all where every attack worked on every sample. What it broke, strong attacks after it never had: they are
    given no benefit of that doubt, and the evidence names them.
    """
    weaker = [i for i, plan in enumerate(result.plans) if weak(plan)]
    stronger = [i for i, plan in enumerate(result.plans) if strong(plan) and i not in weaker]
    before = {i: js for i in weaker if (js := [j for j in stronger if j < i or result.independent])}
    weaker = list(before)
    if not weaker:
        return check(identifier, None, "no two attacks of this suite can be compared on the same samples")
    earlier = sorted({j for js in before.values() for j in js})
    n = int(result.attempted[earlier].any(axis=0).sum())
    # (W, N) for each weak attack: what the strong ones before it failed on, what of it the weak one tried, and broke
    withstood = np.array(
        [(result.attempted[js] & ~result.broken[js].any(axis=0)).any(axis=0) for js in before.values()]
    )
    tried = withstood & result.attempted[weaker]
    beaten = tried & result.broken[weaker]
    if n == 0 or (withstood.any() and not tried.any()):
        return check(identifier, None, f"{_names(result.plans, weaker)} worked on no sample that withstood the others")
    extra = int(beaten.any(axis=0).sum())
    # The share is of all that were tried: it is what the accuracy would lose.
    evidence = (
        f"{_names(result.plans, weaker)} broke {extra} samples that {_names(result.plans, earlier)} did not, of {n}"
    )
    masked = beyond_chance(extra, n)
    first = min((i for i, broken in zip(weaker, beaten, strict=True) if broken.any()), default=len(result.plans))
    later = [f"{result.plans[j].name} (no. {j + 1})" for j in stronger if j > first and not result.independent]
    if masked and later:
        evidence += f"; {', '.join(later)}, listed after, had none of these"
    return check(identifier, not masked, evidence)


def _names(plans: Sequence[AttackPlan], numbers: Sequence[int]) -> str:
    return ", ".join(dict.fromkeys(plans[number].name for number in numbers))


def _gradients(health: GradientHealth | None) -> Check:
    identifier = "zero-gradients"
    if health is None or health.n == 0:
        return check(identifier, None, "gradients were not measured on any correct sample")
    useless = health.zero + health.nonfinite
    evidence = (
        f"of {health.n} correct samples {health.zero} have a zero input gradient and {health.nonfinite} one that is "
        f"not finite; {BEYOND_CHANCE}"
    )
    return check(identifier, not beyond_chance(useless, health.n), evidence)


def _moved(result: SuiteResult) -> Check:
    identifier = "attempts-moved"
    # Attacks of another library may give the clean image back where they fail: that is their contract, not blindness.
    rows = [row for row in result.rows if row.attempted and not row.plan.entry.gives_back]
    tried, unmoved = sum(row.attempted for row in rows), sum(row.unmoved for row in rows)
    if not tried or result.budget.eps == 0:
        return check(identifier, None, f"{tried} attempts of our own at {result.budget}")
    worst = max(rows, key=lambda row: row.unmoved / row.attempted)
    evidence = (
        f"{worst.plan.name} gave {worst.unmoved} of {worst.attempted} clean images back ({unmoved} of {tried} in all)"
    )
    return check(identifier, worst.unmoved <= MOST_UNMOVED * worst.attempted, evidence)
