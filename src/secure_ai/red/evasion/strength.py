"""Is a suite strong enough for a claim? Three kinds of attack, each with no less effort than the suite `fast` gives it.

A name alone says little: APGD with two steps is no APGD. The floors are `fast`'s own efforts, because that is the
weakest suite whose robust accuracy was compared with the reference AutoAttack's (docs/results.md, "AutoAttack's speed"
and "FGSM-RS"); AutoAttack `standard` is above all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.contract import AttackPlan, Setting
from secure_ai.red.evasion.suite import SuiteResult

Floors = Mapping[str, float]

KINDS: Mapping[str, tuple[str, ...]] = {
    "APGD-CE": ("apgd-ce",),
    "a targeted margin attack": ("apgd-t", "fab-t"),
    "an attack by queries": ("square", "hopskipjump"),
}
"""What a claim needs -> the attacks that are one."""

NEAR = 0.25  # `margin_left` of fast's most expensive members

_QUERIES = {"initial_gradient_queries": 100.0, "max_gradient_queries": 100.0}  # 1904.02144, algorithm 2: B_0 = 100
_WINDOW = {"p_init": 0.05}  # 1912.00049, section 5: the smallest share of an image that it starts with

EVERY_SAMPLE_LEFT: Mapping[str, Floors] = {
    "apgd-ce": {"steps": 10},
    "apgd-t": {"steps": 10, "targets": 3},
    "fab-t": {"steps": 10, "targets": 3},
    "square": {"query_budget": 100, **_WINDOW},
    "hopskipjump": {"query_budget": 100, **_QUERIES},
}
NEAR_SAMPLES: Mapping[str, Floors] = {
    "apgd-ce": {"steps": 100},
    "apgd-t": {"steps": 100, "targets": 5},
    "fab-t": {"steps": 100, "targets": 5},
    "square": {"query_budget": 4000, **_WINDOW},
    "hopskipjump": {"query_budget": 4000, **_QUERIES},
}
"""Attack -> setting -> the least that counts: on every sample still standing, and on those of which at most the share
`NEAR` of the margin is left."""


def strength_check(result: SuiteResult) -> Check:
    """`suite-strength`: fails where a kind of attack is missing, too weak, or was kept from samples still standing."""
    everywhere = [plan for number, plan in enumerate(result.plans) if _tried_on_all_left(result, number)]
    near = [plan for plan in result.plans if plan.margin_left is None or plan.margin_left >= NEAR]
    wanting = [
        f"; missing {kind}, e.g. {_least(names[0])}"
        for kind, names in KINDS.items()
        if not (_enough(everywhere, names, EVERY_SAMPLE_LEFT) and _enough(near, names, NEAR_SAMPLES))
    ]
    counted = [plan.short_text for plan in result.plans if any(plan.name in names for names in KINDS.values())]
    evidence = f"of the kinds that a claim needs: {', '.join(counted) or 'none'}{''.join(wanting)}"
    return check("suite-strength", not wanting, evidence)


def _enough(plans: Sequence[AttackPlan], names: Sequence[str], floors: Mapping[str, Floors]) -> bool:
    return any(plan.name in names and _reaches(plan.settings, floors[plan.name]) for plan in plans)


def _reaches(settings: Mapping[str, Setting], floors: Floors) -> bool:
    return all(float(settings[name]) >= floor for name, floor in floors.items())


def _least(name: str) -> str:
    """The weakest form of the attack that is enough for every sample, as it is written on the command line."""
    return ":".join([name, *(f"{setting}={floor:g}" for setting, floor in NEAR_SAMPLES[name].items())])


def _tried_on_all_left(result: SuiteResult, number: int) -> bool:
    """False where `margin_left` kept the attack from a sample that no attack before it had broken."""
    left = result.eligible & ~result.broken[:number].any(axis=0)
    return not (left & ~result.attempted[number]).any()
