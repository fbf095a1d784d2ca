"""Which attacks a target allows: what each needs to see, and what `fast` stands for where there are no gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secure_ai.core.budget import Norm
from secure_ai.core.errors import AttackSettingsError
from secure_ai.core.trust import Check, check
from secure_ai.models.target.access import Access, offers
from secure_ai.red.evasion.contract import AttackPlan, Knowledge
from secure_ai.red.evasion.refusal import refuse_norm
from secure_ai.red.evasion.suite.catalogue import ATTACKS, check_cost, parse_attacks

NEEDS: Mapping[Knowledge, Access] = {
    "white-box": "gradients",
    "score-based": "scores",
    "decision-based": "labels",
    "transfer": "labels",
    "none": "labels",
}
"""What an attack knows of its target -> what the target must offer."""

FAST: Mapping[Access, tuple[str, ...]] = {
    "scores": ("square", "noise"),
    "labels": ("hopskipjump:minimize=false", "noise"),
}
"""What `fast` stands for without gradients, in the order run; what does not know the norm is left out."""

COUNTED = frozenset({"score-based", "decision-based"})
"""Attacks whose queries are counted sample by sample."""


def plans_for(text: str, norm: Norm, access: Access) -> tuple[AttackPlan, ...]:
    """`parse_attacks`, where `fast` means what the target's access allows.

    Raises:
        AttackSettingsError: what `parse_attacks` refuses, or an attack that needs more than the target offers.
    """
    if access in FAST:
        members = ",".join(name for name in FAST[access] if norm in ATTACKS[name.partition(":")[0]].norms)
        text = ",".join(members if item.strip() == "fast" else item for item in text.split(","))
    plans = parse_attacks(text, norm)
    refuse_beyond(plans, norm, access)
    return plans


def read_request(text: str, norm: Norm, access: Access | None, n: int, classes: int) -> tuple[AttackPlan, ...]:
    """`plans_for`, with every refusal that needs no network.

    Args:
        access: as it was asked for; None: gradients, until the network says otherwise.
        n: samples.
        classes: that their labels name.

    Raises:
        AttackSettingsError: what `plans_for` refuses, or an attack that has no form in this norm.
        CostLimitError: above MAX_PASSES.
    """
    plans = plans_for(text, norm, access or "gradients")
    check_cost(plans, n, classes)
    refuse_norm(plans, norm)
    return plans


def refuse_beyond(plans: Sequence[AttackPlan], norm: Norm, access: Access) -> None:
    """Raise AttackSettingsError for the first attack that needs more than a target offers, naming those that do not."""
    for plan in plans:
        need = NEEDS[plan.entry.knowledge]
        if not offers(access, need):
            able = [
                name
                for name, entry in ATTACKS.items()
                if norm in entry.norms and offers(access, NEEDS[entry.knowledge])
            ]
            raise AttackSettingsError(
                f"the attack needs {need}, and the target offers {access} only",
                where=plan.name,
                expected=f"for {norm} on {access}: {', '.join(sorted(able))}, or the suite fast",
                got=plan.name,
            )


def access_check(access: Access) -> Check:
    """Fails without gradients: what black-box attacks miss within their queries proves little."""
    if access == "gradients":
        return check("access", True, "attacked with everything: gradients, scores and labels")
    return check(
        "access",
        False,
        f"the target offers {access} only: no attack could follow a gradient, so the figure is an upper bound that a "
        "white-box attack, or more queries, may lower by much",
    )
