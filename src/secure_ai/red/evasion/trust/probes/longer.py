"""Does a longer attack with restarts break what the suite called robust?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.statistics import beyond_chance
from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.math.losses import cross_entropy, dlr, margin
from secure_ai.red.evasion.math.projections import random_start
from secure_ai.red.evasion.trust.probes.ascent import survivors
from secure_ai.red.evasion.trust.probes.probe import Probe, drawn_among

ID = "longer-attack"
SAMPLES = 64
STEPS = 100
LOSSES = (margin, cross_entropy, dlr)  # one restart each


def longer_attack(probe: Probe, x: np.ndarray | Tensor, y: np.ndarray | Tensor, robust: np.ndarray) -> Check:
    """Fails when a fresh PGD of STEPS steps from three random starts breaks images that the suite did not.

    Short against long, and several restarts (Carlini et al. 2019, 1902.06705, sections 4.3 and 5.4), asked of the
    number itself. At most SAMPLES * 3 * (STEPS + 1) passes each way.

    Args:
        robust: (N,) bool: what the suite counts as robust among all of `x`.
    """
    if probe.budget.norm == "l0" or probe.budget.eps == 0:
        return check(ID, None, f"no survivors of a suite to attack at {probe.budget}")
    if not robust.any():
        return check(ID, True, "the suite left no image to attack")
    images, labels = drawn_among(probe, x, y, robust, SAMPLES)
    alive = torch.arange(len(labels), device=labels.device)
    for loss in LOSSES:
        start = random_start(images, probe.budget, probe.generator(f"longer attack, {loss.__name__}"))
        part = images[alive]
        if len(alive):
            left = survivors(
                probe.target, part, labels[alive], start=start[alive], budget=probe.budget, steps=STEPS, loss=loss
            )
            alive = alive[left]
    extra, n = len(labels) - len(alive), len(labels)
    evidence = (
        f"PGD of {STEPS} steps from {len(LOSSES)} random starts broke {extra} of {n} images that the suite did not"
    )
    unstable = beyond_chance(extra, n)
    return check(ID, not unstable, evidence)
