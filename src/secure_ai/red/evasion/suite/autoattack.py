"""AutoAttack's protocols as lists of attacks: members, order, restarts, targets and queries."""

from __future__ import annotations

from typing import Literal

from secure_ai.core.budget import Norm
from secure_ai.core.errors import AttackSettingsError

Protocol = Literal["standard", "plus", "rand"]

AUTOATTACK: dict[Protocol, dict[Norm, str]] = {
    "standard": {
        "linf": "apgd-ce,apgd-t,fab-t:minimize=false,square",
        "l2": "apgd-ce,apgd-t,fab-t:minimize=false,square",
        "l1": "apgd-ce:restarts=5:radius_schedule=true,apgd-t:targets=5:radius_schedule=true"
        ",fab-t:minimize=false,square",
    },
    "plus": dict.fromkeys(
        ("linf", "l2"),
        "apgd-ce:restarts=5,apgd-dlr:restarts=5,fab:restarts=5:minimize=false,square,apgd-t,fab-t:minimize=false",
    ),
    "rand": {
        "linf": "apgd-ce:eot_samples=20,apgd-dlr:eot_samples=20",
        "l2": "apgd-ce:eot_samples=20,apgd-dlr:eot_samples=20",
        "l1": "apgd-ce:eot_samples=20,apgd-dlr:eot_samples=20",
    },
}
"""Protocol -> norm -> attacks in order, as the public AutoAttack runs them; what is not written is the default:
100 steps, 1 restart, 9 targets, 5,000 queries. `plus` is defined for linf and l2 only."""


def autoattack(protocol: Protocol, norm: Norm) -> str:
    """The attack list of an AutoAttack protocol (2003.01690, section 5; l1: 2103.01208, section 5).

    Raises:
        AttackSettingsError: the protocol is not defined for this norm.
    """
    known = AUTOATTACK[protocol]
    if norm not in known:
        raise AttackSettingsError(
            f"AutoAttack {protocol} is not defined for this norm",
            where="--attack",
            expected=" or ".join(known),
            got=norm,
        )
    return known[norm]
