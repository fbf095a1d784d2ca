"""With no limit, any image can be turned into any other: an attack that still fails is blind."""

from __future__ import annotations

import torch

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.math.losses import cross_entropy, margin
from secure_ai.red.evasion.trust.probes.ascent import survivors
from secure_ai.red.evasion.trust.probes.probe import Probe

STEPS = 40
HALF, WHOLE = 0.5, 1.0  # linf: from HALF every image can become one same grey, at WHOLE any image any other
SAMPLES = 64


def unbounded_attack(probe: Probe) -> Check:
    """Fails when PGD leaves more than the largest class at linf eps 0.5, or anything at eps 1.

    Carlini et al. 2019 (1902.06705), section 5: an unbounded attack must reach 0; "unconstrained attack failure" of
    Pintor et al. (2106.09947). Both starts at the clean image, so that only gradients can succeed; the margin first,
    then the cross-entropy on what is left. Whatever the budget's norm, the whole pixel box is the same.
    At most 4 * STEPS passes each way for each of SAMPLES images; a sample leaves when it is broken.
    """
    identifier = "unbounded-attack"
    x, y = probe.right(SAMPLES)
    if not len(y):
        return check(identifier, None, "no image is classified correctly")
    left = {}
    for eps in (HALF, WHOLE):
        alive = torch.arange(len(y), device=y.device)
        for loss in (margin, cross_entropy):
            budget = PerturbationBudget("linf", eps)
            part, labels = x[alive], y[alive]
            if len(alive):
                found = survivors(probe.target, part, labels, start=part, budget=budget, steps=STEPS, loss=loss)
                alive = alive[found]
        left[eps] = len(alive)
    largest = int(torch.bincount(y).max())
    evidence = (
        f"PGD from the clean image leaves {left[HALF]} of {len(y)} images right at linf eps {HALF:g} (the largest "
        f"class has {largest}) and {left[WHOLE]} at eps {WHOLE:g} (none may be)"
    )
    return check(identifier, left[HALF] <= largest and left[WHOLE] == 0, evidence)
