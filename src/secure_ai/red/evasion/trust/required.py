"""Which checks break a robust accuracy, and which a `reliable` one may lack, by norm; all others must be known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.trust import Check, CheckOutcome, check

ID = "required-checks"
BREAKING = frozenset({"made-for-another-network"})  # the number is of something else, not merely weak

ANYWHERE = frozenset(
    {
        "binarisation",  # the network offers no features(x)
        "input-normalisation",  # nobody says how pixels were prepared
        "not-trained-on",  # nobody says what it was trained on
        "made-for-another-network",  # nothing with a digest was attacked
        "one-step-beats-many",  # the stronger attacks left the weaker ones no sample
        "black-box-beats-white-box",  # the same
    }
)
MAY_LACK: Mapping[Norm, frozenset[str]] = {
    "linf": ANYWHERE,
    "l2": ANYWHERE,
    "l1": ANYWHERE | {"pgd-falls-short"},  # plain PGD is weak against honest networks there
    "l0": frozenset(),  # no suite is strong enough to be called reliable, and most probes cannot run
}
"""For targets with gradients. One that offers scores or labels is never reliable: the check `access` fails."""


def required_check(made: Sequence[Check], budget: PerturbationBudget) -> Check:
    """Fails where a check that a reliable number may not lack could not run; at eps 0 there is nothing to attack."""
    if budget.eps == 0:
        return check(ID, None, "at eps 0 nothing is attacked")
    missing = [c.id for c in made if c.outcome is CheckOutcome.NOT_RUN and c.id not in MAY_LACK[budget.norm]]
    lacking = [c.id for c in made if c.outcome is CheckOutcome.NOT_RUN and c.id not in missing]
    evidence = f"not run: {', '.join(missing) or 'none'} that a reliable number in {budget.norm} needs"
    return check(ID, not missing, evidence + (f"; {', '.join(lacking)} may be lacking" if lacking else ""))
