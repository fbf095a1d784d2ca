"""Is a suite strong enough for a claim? Three kinds of attack, each with a least effort.

A name alone says little: APGD with two steps is no APGD. Each attack's entry says what it counts as (`counts_as`) and
with which least settings: where `fast` has the attack the least is what `fast` gives it. AutoAttack `standard` is above
all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.core.budget import Norm
from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.contract import AttackPlan, Role
from secure_ai.red.evasion.suite.result import SuiteResult

ROLES: Mapping[Role, str] = {
    "gradient": "APGD-CE",
    "targeted": "a targeted margin attack",
    "query": "a query-based attack",
}
"""What a claim needs, in words."""

NEAR = 0.25  # `margin_left` of fast's most expensive members


def strength_check(result: SuiteResult) -> Check:
    """`suite-strength`: fails where a kind of attack is missing, too weak, or did not reach every remaining sample.

    A query-based attack before all gradient-based ones does not count: what it breaks could not be compared
    with what gradient-based ones leave. A suite with a target class fails: another class may be nearer.
    """
    wanting = [title for role, title in ROLES.items() if not _everywhere(result, role) or not _near(result, role)]
    given = ", ".join(plan.short_text for plan in result.plans if plan.entry.counts_as) or "none"
    evidence = f"of the kinds that a claim needs: {given}"
    if wanting:
        evidence += f"; missing, too weak or too early: {', '.join(wanting)}; the suite fast has all three"
    if result.target_label is not None:
        evidence += f"; only class {result.target_label} was aimed at"
    return check("suite-strength", not wanting and result.target_label is None, evidence)


def _everywhere(result: SuiteResult, role: Role) -> bool:
    """Whether an attack of the role was tried on every sample that none before it had broken."""
    return any(
        _counts_everywhere(plan, role, result.num_classes)
        and _tried_on_all_left(result, number)
        and (role != "query" or _can_tell(result, number))
        for number, plan in enumerate(result.plans)
    )


def _near(result: SuiteResult, role: Role) -> bool:
    """Whether a long attack of the role was tried on every sample, or on those that gradients brought near the goal.

    What `margin_left` measures is the work of the attacks before: after mere noise no sample would be near.
    """
    for number, plan in enumerate(result.plans):
        if not _counts_near(plan, role, result.num_classes, result.budget.norm):
            continue
        if plan.margin_left is None:
            enough = role != "query" or _can_tell(result, number)
        else:
            after_both = all(any(n < number for n in _on_all(result, needed)) for needed in ("gradient", "targeted"))
            enough = result.independent or (plan.margin_left >= NEAR and after_both)
        if enough:
            return True
    return False


def _can_tell(result: SuiteResult, number: int) -> bool:
    """Whether one sees that a query-based attack breaks what gradients do not: it comes after them, if any."""
    gradient_based = _on_all(result, "gradient") + _on_all(result, "targeted")
    return result.independent or not gradient_based or min(gradient_based) < number


def _on_all(result: SuiteResult, role: Role) -> list[int]:
    """The positions in the suite of attacks of the role that worked on every sample."""
    return [
        number
        for number, plan in enumerate(result.plans)
        if plan.margin_left is None and _counts_everywhere(plan, role, result.num_classes)
    ]


def _counts_everywhere(plan: AttackPlan, role: Role, num_classes: int) -> bool:
    counts_as = plan.entry.counts_as
    return counts_as is not None and counts_as.role == role and _reaches(plan, counts_as.everywhere, num_classes)


def _counts_near(plan: AttackPlan, role: Role, num_classes: int, norm: Norm) -> bool:
    counts_as = plan.entry.counts_as
    if counts_as is None or counts_as.role != role:
        return False
    least = {**counts_as.near, **(counts_as.near_l1 if norm == "l1" else {})}
    return _reaches(plan, least, num_classes)


def _reaches(plan: AttackPlan, least: Mapping[str, float], num_classes: int) -> bool:
    """Whether the settings are at least these; of few classes all others are targets enough."""
    if "targets" in least:
        least = {**least, "targets": min(least["targets"], num_classes - 1)}
    return all(float(plan.settings.get(setting, 0)) >= value for setting, value in least.items())


def _tried_on_all_left(result: SuiteResult, number: int) -> bool:
    """False where `margin_left` kept the attack from a sample that no attack before it had broken."""
    left = result.eligible & ~result.broken[:number].any(axis=0)
    return not (left & ~result.attempted[number]).any()
