"""Was the network fitted to one-step attacks? Then one step shows nothing, and gradients lead astray."""

from __future__ import annotations

import torch
from torch import Tensor

from secure_ai.core.seeds import normal
from secure_ai.core.statistics import beyond_chance
from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.math.losses import cross_entropy
from secure_ai.red.evasion.math.projections import project, steepest
from secure_ai.red.evasion.trust.probes.probe import Probe, raw_gradient

FRACTIONS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
MOST_GAP = 0.15  # FGSM minus many-step accuracy: alarm at 15 to 20 points in fast adversarial training (2001.03994)
MOST_NOISE_GAP = 0.05  # chosen on zoo A: never above 0 on an honest network, 0.68 on one trained with FGSM
NOISE_SHARE = 0.5  # of eps, before the step: R+FGSM of 1705.07204, section 4.1
IDS = ("one-step-overfitting", "label-leaking")


def one_step(probe: Probe) -> tuple[Check, ...]:
    """Two checks about FGSM with the true label; 2 backward and 11 forward passes a sample.

    That FGSM does worse than PGD says nothing about a network: it is so on every one. But an honest network loses
    accuracy the further one goes, and half a step spent on noise is half a step lost. One with catastrophic
    overfitting is right at the full step and wrong on the way there (Kim et al., 2010.01799), or its gradients lead
    astray exactly at the clean images, so that noise first and then half a step breaks more (Tramer et al.,
    1705.07204, section 4.1). One with label leaking is right more often than without an attack (1611.01236).
    """
    if probe.budget.norm == "l0" or probe.budget.eps == 0:
        return tuple(check(identifier, None, f"no step along a gradient at {probe.budget}") for identifier in IDS)
    x, y = probe.x, probe.y
    step = _step(probe, x)

    def right(points: Tensor) -> Tensor:
        with torch.no_grad():
            return probe.target.logits(project(points.clamp(0, 1), x, probe.budget)).argmax(dim=1) == y

    noise = normal(x.shape, probe.generator("noise before a step"), x.device)
    start = (x + NOISE_SHARE * probe.budget.eps * steepest(noise, probe.budget.norm)).clamp(0, 1)
    noisy = right(start + (1 - NOISE_SHARE) * _step(probe, start))
    full, shorter = right(x + step), [right(x + fraction * step) for fraction in FRACTIONS]
    return _overfitting(full, shorter, noisy), _leaking(probe.correct, full)


def _step(probe: Probe, x: Tensor) -> Tensor:
    """A step of length eps up the cross-entropy from `x`."""
    _, _, gradient = raw_gradient(probe.target, x, probe.y, cross_entropy)
    usable = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return probe.budget.eps * steepest(usable, probe.budget.norm)


def _overfitting(full: Tensor, shorter: list[Tensor], noisy: Tensor) -> Check:
    n, whole, after_noise = len(full), int(full.sum()), int(noisy.sum())
    counts = [int(right.sum()) for right in shorter]
    lowest = min(counts)
    evidence = (
        f"one step of eps leaves {whole} of {n} images right; one of {FRACTIONS[counts.index(lowest)]:g} eps in the "
        f"same direction {lowest}, half a step after noise {after_noise}; at most {MOST_GAP:.0%} and "
        f"{MOST_NOISE_GAP:.0%} of {n} fewer may be"
    )
    return check(IDS[0], whole - lowest <= MOST_GAP * n and whole - after_noise <= MOST_NOISE_GAP * n, evidence)


def _leaking(clean: Tensor, full: Tensor) -> Check:
    n, gained, lost = len(clean), int((full & ~clean).sum()), int((clean & ~full).sum())
    extra = gained - lost
    evidence = (
        f"{int(full.sum())} of {n} images are right after one step made with the true label, {int(clean.sum())} before"
    )
    return check(IDS[1], not beyond_chance(extra, n), evidence)
