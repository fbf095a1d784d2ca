"""Does plain PGD miss much of what the suite found? Then gradients lead astray, and the suite may have missed more."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.trust import Check, check
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.red.evasion.diagnosis.ascent import survivors
from secure_ai.red.evasion.diagnosis.probe import Probe
from secure_ai.red.evasion.losses import cross_entropy
from secure_ai.red.evasion.projections import random_start

ID = "pgd-falls-short"
SAMPLES = 128
STEPS = 40
MOST_MISSED = 0.15  # of all images; on training images: sound robust networks up to 0.10, masked ones 0.19 to 0.35


def pgd_falls_short(probe: Probe, x: np.ndarray | Tensor, y: np.ndarray | Tensor, robust: np.ndarray | None) -> Check:
    """Fails when PGD-40 of one start leaves over 15 points more than the suite, and as much is left to lose.

    Against a network with honest gradients PGD of enough steps comes near the strongest attacks known (Madry et al.,
    1706.06083, section 3); where one-step training has masked gradients in part it does not, and no one knows how far
    the suite itself came. A number that is nearly 0 is believed: it cannot be wrong by much. At most SAMPLES *
    (STEPS + 2) forward and SAMPLES * STEPS backward passes.

    Args:
        x: (N, C, H, W).
        y: (N,) true labels.
        robust: (N,) bool: what the suite counts as robust among all of `x`.
    """
    if robust is None or probe.budget.norm == "l0" or probe.budget.eps == 0:
        return check(ID, None, f"no outcome of a suite to compare PGD with at {probe.budget}")
    lost = np.flatnonzero(~robust)
    chosen = lost[torch.randperm(len(lost), generator=probe.generator(ID))[:SAMPLES].sort().values.numpy()]
    missed = 0
    if len(chosen):
        images, labels = images_to_float(x[chosen]), labels_to_tensor(y)[torch.from_numpy(chosen)]
        missed = int(_unbroken(probe, images, labels).sum())
    points = missed / max(1, len(chosen)) * len(lost) / len(robust)
    left = float(np.mean(robust))
    evidence = (
        f"PGD of {STEPS} steps left {missed} of {len(chosen)} images right that the suite broke, so {100 * points:.1f} "
        f"points more of all; the suite leaves {100 * left:.1f} %; over {MOST_MISSED:.0%} in both is too much"
    )
    return check(ID, min(points, left) <= MOST_MISSED, evidence)


def _unbroken(probe: Probe, x: Tensor, y: Tensor) -> Tensor:
    """(N,) bool: right without an attack and under PGD from one random start."""
    start = random_start(x, probe.budget, probe.generator(f"{ID}, start"))
    alive = survivors(probe.target, x, y, start=start, budget=probe.budget, steps=STEPS, loss=cross_entropy)
    with torch.no_grad():
        return alive & (probe.target.logits(x).argmax(dim=1) == y)
