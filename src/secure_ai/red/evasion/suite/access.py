"""What each attack needs to see of its target."""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.core.trust import Check, check
from secure_ai.models.target.access import Access
from secure_ai.red.evasion.contract import Knowledge

NEEDS: Mapping[Knowledge, Access] = {
    "white-box": "gradients",
    "score-based": "scores",
    "decision-based": "labels",
    "transfer": "labels",
    "none": "labels",
}
"""What an attack knows of its target -> what the target must offer."""

COUNTED = frozenset({"score-based", "decision-based"})
"""Attacks whose queries are counted sample by sample."""


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
