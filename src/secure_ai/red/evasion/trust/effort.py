"""Is a suite strong enough for a claim? Three kinds of attack, each with a least effort.

A name alone says little: APGD with two steps is no APGD. Where `fast` has the attack the least is what `fast` gives it;
FAB-T's is APGD-T's. AutoAttack `standard` is above all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.suite.result import SuiteResult

Least = Mapping[str, float]

ASCENT, TARGETED, QUERIES = "APGD-CE", "a targeted margin attack", "an attack by queries"
KINDS: Mapping[str, tuple[str, ...]] = {ASCENT: ("apgd-ce",), TARGETED: ("apgd-t", "fab-t"), QUERIES: ("square",)}
"""What a claim needs -> the attacks that are one."""

NEAR = 0.25  # `margin_left` of fast's most expensive members

_WINDOW = {"p_init": 0.05}  # 1912.00049, section 5: the smallest share of an image that it starts with

EVERY_SAMPLE_LEFT: Mapping[str, Least] = {
    "apgd-ce": {"steps": 10},
    "apgd-t": {"steps": 10, "targets": 3},
    "fab-t": {"steps": 10, "targets": 3},
    "square": {"query_budget": 100, **_WINDOW},
}
NEAR_SAMPLES: Mapping[str, Least] = {
    "apgd-ce": {"steps": 100},
    "apgd-t": {"steps": 100, "targets": 5},
    "fab-t": {"steps": 100, "targets": 5},
    "square": {"query_budget": 4000, **_WINDOW},
}
"""Attack -> setting -> the least that counts: on every sample still standing, and on those of which at most the share
`NEAR` of the margin is left."""

NEAR_SAMPLES_L1: Mapping[str, Least] = {
    **NEAR_SAMPLES,
    "apgd-ce": {"steps": 100, "radius_schedule": True},
    "apgd-t": {"steps": 100, "targets": 5, "radius_schedule": True},
}
"""In l1 APGD is weak without the schedule (2103.01208, section 3.3)."""


def strength_check(result: SuiteResult) -> Check:
    """`suite-strength`: fails where a kind of attack is missing, too weak, or was kept from samples still standing.

    An attack by queries before all ascents does not count: nobody would see that it breaks what gradients do not.

    So does a suite with a target class: another class may be nearer.
    """
    wanting = [kind for kind in KINDS if not _everywhere(result, kind) or not _near(result, kind)]
    names = {name for kind in KINDS.values() for name in kind}
    given = ", ".join(plan.short_text for plan in result.plans if plan.name in names) or "none"
    evidence = f"of the kinds that a claim needs: {given}"
    if wanting:
        evidence += f"; missing, too weak or too early: {', '.join(wanting)}; the suite fast has all three"
    if result.target_label is not None:
        evidence += f"; only class {result.target_label} was aimed at"
    return check("suite-strength", not wanting and result.target_label is None, evidence)


def _everywhere(result: SuiteResult, kind: str) -> bool:
    """Whether an attack of the kind was tried on every sample that none before it had broken."""
    return any(
        _is_one(plan, kind, EVERY_SAMPLE_LEFT, result.num_classes)
        and _tried_on_all_left(result, number)
        and (kind != QUERIES or _can_tell(result, number))
        for number, plan in enumerate(result.plans)
    )


def _near(result: SuiteResult, kind: str) -> bool:
    """Whether a long attack of the kind was tried on every sample, or on the near ones of those that ascents left.

    What `margin_left` measures is the work of the attacks before: after mere noise no sample would be near.
    """
    least, classes = NEAR_SAMPLES_L1 if result.budget.norm == "l1" else NEAR_SAMPLES, result.num_classes
    for number, plan in enumerate(result.plans):
        if not _is_one(plan, kind, least, classes):
            continue
        if plan.margin_left is None:
            enough = kind != QUERIES or _can_tell(result, number)
        else:
            ascended = all(any(n < number for n in _ascents(result, needed)) for needed in (ASCENT, TARGETED))
            enough = result.independent or (plan.margin_left >= NEAR and ascended)
        if enough:
            return True
    return False


def _can_tell(result: SuiteResult, number: int) -> bool:
    """Whether one sees that an attack by queries breaks what gradients do not: ascents, if any, began before it."""
    ascents = _ascents(result, ASCENT) + _ascents(result, TARGETED)
    return result.independent or not ascents or min(ascents) < number


def _ascents(result: SuiteResult, kind: str) -> list[int]:
    """The places in the suite of attacks of the kind that were there for every sample."""
    return [
        number
        for number, plan in enumerate(result.plans)
        if plan.margin_left is None and _is_one(plan, kind, EVERY_SAMPLE_LEFT, result.num_classes)
    ]


def _is_one(plan: AttackPlan, kind: str, table: Mapping[str, Least], num_classes: int) -> bool:
    """Whether the attack is of the kind and has at least this effort; of few classes all others are targets enough."""
    if plan.name not in KINDS[kind]:
        return False
    least = dict(table[plan.name])
    if "targets" in least:
        least["targets"] = min(least["targets"], num_classes - 1)
    return all(float(plan.settings.get(setting, 0)) >= value for setting, value in least.items())


def _tried_on_all_left(result: SuiteResult, number: int) -> bool:
    """False where `margin_left` kept the attack from a sample that no attack before it had broken."""
    left = result.eligible & ~result.broken[:number].any(axis=0)
    return not (left & ~result.attempted[number]).any()
