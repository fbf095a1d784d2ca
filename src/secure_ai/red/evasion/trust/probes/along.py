"""Along an attack, not only at the clean image: are there gradients, does the loss rise, and has it settled?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from secure_ai.core.statistics import BEYOND_CHANCE, beyond_chance
from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.attacks.pgd import TRAVEL
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.math.losses import cross_entropy, margin
from secure_ai.red.evasion.trust.probes.ascent import Trace, ascend
from secure_ai.red.evasion.trust.probes.probe import Probe, all_zero, raw_gradient

SAMPLES = 64
USUAL_STEPS, MOST_STEPS = 40, 100
MOST_BLIND = 0.05  # share of gradients, those of three images; on zoo A an honest network has none
LAST, LAST_SHARE = 10, 0.2  # iterates: the last 10, or the last fifth of fewer than 50
SETTLED = 0.05  # of the whole rise: "incomplete optimisation" of Pintor et al. (2106.09947), code: last 10 steps > 0.05
MOST_UNSETTLED = 0.5  # share of the surviving images; chosen on zoo A: honest hardened networks climb slowly to the end
IDS = ("gradients-along-attack", "saturated-loss", "loss-rises", "converged")


def along_the_attack(probe: Probe, attacks: Sequence[AttackPlan]) -> tuple[Check, ...]:
    """Four checks, three from an ascent of the margin from the clean image, with steps and step size as the suite's.

    At most MOST_STEPS + 3 passes each way for each of SAMPLES images.
    """
    x, y = probe.right(SAMPLES)
    if not len(y) or probe.budget.norm == "l0" or probe.budget.eps == 0:
        reason = "no image is classified correctly" if not len(y) else f"no ascent at {probe.budget}"
        return tuple(check(identifier, None, reason) for identifier in IDS)
    steps, travel = steps_of(attacks)
    # both losses: a saturated cross-entropy must not look like a network without gradients
    climbed = ascend(probe.target, x, y, start=x, budget=probe.budget, steps=steps, loss=margin, travel=travel)
    of_margin, of_cross_entropy = (raw_gradient(probe.target, x, y, loss)[2] for loss in (margin, cross_entropy))
    return (_gradients(climbed), _saturated(of_margin, of_cross_entropy), _rises(climbed), _converged(climbed))


def steps_of(attacks: Sequence[AttackPlan]) -> tuple[int, float]:
    """Steps of the longest white-box attack, at most MOST_STEPS, and how far they go in all, in eps.

    USUAL_STEPS where the suite has no attack of several steps.
    """
    plans = [plan for plan in attacks if plan.entry.knowledge == "white-box" and int(plan.settings.get("steps", 0)) > 1]
    if not plans:
        return USUAL_STEPS, TRAVEL
    longest = max(plans, key=lambda plan: int(plan.settings["steps"]))
    steps = min(int(longest.settings["steps"]), MOST_STEPS)
    return steps, steps * float(longest.settings.get("step_size_rel", 0.0)) or TRAVEL


def _gradients(trace: Trace) -> Check:
    zero, nonfinite, total = int(trace.zero.sum()), int(trace.nonfinite.sum()), trace.zero.numel()
    evidence = (
        f"of {total} gradients of the margin along an attack {zero} are zero and {nonfinite} not finite; at most "
        f"{MOST_BLIND:.0%} may"
    )
    return check(IDS[0], zero + nonfinite <= MOST_BLIND * total, evidence)


def _saturated(of_margin: Tensor, of_cross_entropy: Tensor) -> Check:
    """Zero gradients of the float32 cross-entropy where the margin has one: the logits are so far apart that p = 1."""
    saturated, n = int((all_zero(of_cross_entropy) & ~all_zero(of_margin)).sum()), len(of_margin)
    evidence = (
        f"on {saturated} of {n} images the gradient of the cross-entropy is exactly 0 in float32 and that of the "
        f"logit margin is not; {BEYOND_CHANCE}"
    )
    return check(IDS[1], not beyond_chance(saturated, n), evidence)


def _rises(trace: Trace) -> Check:
    flat = int((trace.margin[1:].amax(dim=0) <= trace.margin[0]).sum())
    n = trace.margin.shape[1]
    evidence = f"on {flat} of {n} images {len(trace.margin) - 1} steps never raised the margin; {BEYOND_CHANCE}"
    return check(IDS[2], not beyond_chance(flat, n), evidence)


def _converged(trace: Trace) -> Check:
    left = trace.margin[:, ~trace.broken]
    n = left.shape[1]
    if n == 0:
        return check(IDS[3], True, "no image survived the attack")
    best = torch.cummax(left, dim=0).values
    rise = (best[-1] - best[0]).clamp_min(1e-12)
    steps = len(left) - 1
    last = max(1, min(LAST, int(LAST_SHARE * steps)))
    unsettled = int(((best[-1] - best[-1 - last]) / rise > SETTLED).sum())
    evidence = (
        f"on {unsettled} of {n} images that survived, the last {last} of {steps} steps made more than "
        f"{SETTLED:.0%} of the margin's whole rise"
    )
    return check(IDS[3], unsettled <= MOST_UNSETTLED * n, evidence)
