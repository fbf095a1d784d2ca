"""AutoAttack's protocols as lists of attacks: members, order, restarts, targets and queries.

As the public AutoAttack runs them (2003.01690, section 5; l1: 2103.01208, section 5). What is not written is the
default: 100 steps, 1 restart, 9 targets, 5,000 queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from secure_ai.core.budget import Norm

Protocol = Literal["standard", "plus", "rand"]

_EOT = "apgd-ce:eot_samples=20,apgd-dlr:eot_samples=20"
_PLUS = "apgd-ce:restarts=5,apgd-dlr:restarts=5,fab:restarts=5:minimize=false,square,apgd-t,fab-t:minimize=false"

AUTOATTACK: Mapping[Protocol, Mapping[Norm, str]] = {
    "standard": {
        "linf": "apgd-ce,apgd-t,fab-t:minimize=false,square",
        "l2": "apgd-ce,apgd-t,fab-t:minimize=false,square",
        "l1": "apgd-ce:restarts=5:radius_schedule=true,apgd-t:targets=5:radius_schedule=true"
        ",fab-t:minimize=false,square",
    },
    "plus": {"linf": _PLUS, "l2": _PLUS},
    "rand": {"linf": _EOT, "l2": _EOT, "l1": _EOT},
}
"""Protocol -> norm -> attacks in order; a norm that is left out has no such protocol."""
