"""Was the network fitted to one-step attacks? Then one step shows nothing, and gradients lead astray."""

from __future__ import annotations

import torch
from torch import Tensor

from secure_ai.core.statistics import wilson
from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.diagnosis.probe import Probe, raw_gradient
from secure_ai.red.evasion.losses import cross_entropy
from secure_ai.red.evasion.projections import project, steepest

FRACTIONS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
MOST_GAP = 0.15  # FGSM minus many-step accuracy: alarm at 15 to 20 points in fast adversarial training (2001.03994)
LEAST_EXTRA = 3
LEAST_EXTRA_SHARE = 0.005
IDS = ("one-step-overfitting", "label-leaking")


def one_step(probe: Probe) -> tuple[Check, ...]:
    """Two checks along the direction of FGSM with the true label; 1 backward and 9 forward passes a sample.

    An honest network loses accuracy the further one goes, hardened or not; that FGSM does worse than PGD says nothing
    about it. A network with catastrophic overfitting is right at the full step and wrong on the way there (Kim et al.,
    2010.01799), and one with label leaking is right more often than without an attack (Kurakin et al., 1611.01236).
    """
    if probe.budget.norm == "l0" or probe.budget.eps == 0:
        return tuple(check(identifier, None, f"no step along a gradient at {probe.budget}") for identifier in IDS)
    x, y = probe.x, probe.y
    _, _, gradient = raw_gradient(probe.target, x, y, cross_entropy)
    step = probe.budget.eps * steepest(gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), probe.budget.norm)

    def right(fraction: float) -> Tensor:
        with torch.no_grad():
            moved = project((x + fraction * step).clamp(0, 1), x, probe.budget)
            return probe.target.logits(moved).argmax(dim=1) == y

    full, shorter = right(1.0), [right(fraction) for fraction in FRACTIONS]
    return _overfitting(full, shorter), _leaking(probe.correct, full)


def _overfitting(full: Tensor, shorter: list[Tensor]) -> Check:
    n, whole = len(full), int(full.sum())
    counts = [int(right.sum()) for right in shorter]
    lowest = min(counts)
    evidence = (
        f"one step of eps leaves {whole} of {n} images right, one of {FRACTIONS[counts.index(lowest)]:g} eps in the "
        f"same direction {lowest}; at most {MOST_GAP:.0%} of {n} more may be right at the full step"
    )
    return check(IDS[0], whole - lowest <= MOST_GAP * n, evidence)


def _leaking(clean: Tensor, full: Tensor) -> Check:
    n, gained, lost = len(clean), int((full & ~clean).sum()), int((clean & ~full).sum())
    extra = gained - lost
    evidence = (
        f"{int(full.sum())} of {n} images are right after one step made with the true label, {int(clean.sum())} before"
    )
    return check(IDS[1], not (extra >= LEAST_EXTRA and wilson(extra, n)[0] > LEAST_EXTRA_SHARE), evidence)
