"""Do gradients tell the truth about what happens when pixels change?"""

from __future__ import annotations

import torch
from torch import Tensor

from secure_ai.core.seeds import uniform
from secure_ai.core.statistics import BEYOND_CHANCE, beyond_chance
from secure_ai.core.trust import Check, check
from secure_ai.red.evasion.math.losses import margin
from secure_ai.red.evasion.trust.probes.probe import Probe, all_zero, raw_gradient

TINY_MOVE = 2e-4  # of the pixel range: well below half a grey level of 8 bits (2e-3), far above float32's rounding
MOST_JUMP = 3.0  # times the first-order bound; honest networks reach 0.1 of it, noise of 0.01 of the range 9
ROUNDING = 1e-5  # of the largest logit
MOVES = (1 / 255, 4 / 255, 8 / 255)  # linf; small beside any eps of interest, large beside a ripple of one grey level
TRUE = (0.5, 2.0)  # times the predicted change; chosen on zoo A, where honest networks lie between 0.9 and 1.1
LEAST_TRUE = 0.5  # share of images; chosen on zoo A


def step_function(probe: Probe) -> Check:
    """Fails when tiny moves change nothing at all: the input is rounded somewhere. One forward pass a sample."""
    identifier = "step-function"
    x, y = probe.right()
    if not len(y):
        return check(identifier, None, "no image is classified correctly")
    noise = TINY_MOVE * (2 * uniform(x.shape, probe.generator("tiny move"), x.device) - 1)
    with torch.no_grad():
        before, after = probe.target.logits(x), probe.target.logits((x + noise).clamp(0, 1))
    constant = int((before == after).all(dim=1).sum())
    evidence = f"on {constant} of {len(y)} images noise of {TINY_MOVE:g} changes no logit; {BEYOND_CHANCE}"
    return check(identifier, not beyond_chance(constant, len(y)), evidence)


def jumps_nearby(probe: Probe) -> Check:
    """Fails when a tiny move changes the margin by far more than its gradient allows: every point has noise of its own.

    To first order a move of at most TINY_MOVE a pixel changes the margin by at most TINY_MOVE times the gradient's l1
    norm. Noise drawn from the image's content repeats from call to call, so that nothing else tells of it; an attack
    has as many draws as it has steps. Two forward passes and one backward pass a sample.
    """
    identifier = "jumps-nearby"
    x, y = probe.right()
    if not len(y):
        return check(identifier, None, "no image is classified correctly")
    logits, before, gradient = raw_gradient(probe.target, x, y, margin)
    noise = TINY_MOVE * (2 * uniform(x.shape, probe.generator("tiny move"), x.device) - 1)
    with torch.no_grad():
        change = (margin(probe.target.logits((x + noise).clamp(0, 1)), y) - before).abs()
    slope = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).flatten(1).abs().sum(dim=1)
    allowed = MOST_JUMP * TINY_MOVE * slope + ROUNDING * logits.abs().amax(dim=1)
    jumps, n = int((change > allowed).sum()), len(y)
    evidence = (
        f"on {jumps} of {n} images noise of {TINY_MOVE:g} changes the margin over {MOST_JUMP:g} times as much as its "
        f"gradient allows; {BEYOND_CHANCE}"
    )
    return check(identifier, not beyond_chance(jumps, n), evidence)


def gradient_matches_change(probe: Probe) -> Check:
    """Fails when a short step along the margin's gradient does not change the margin as the gradient says.

    For each of MOVES and each image: the change measured over the change predicted (to first order, from the pixels as
    they moved inside [0, 1]). The best of the moves counts, so that neither curvature nor rounding alone decides. One
    backward and len(MOVES) + 1 forward passes a sample.
    """
    identifier = "gradient-matches-change"
    x, y = probe.right()
    if not len(y):
        return check(identifier, None, "no image is classified correctly")
    _, before, gradient = raw_gradient(probe.target, x, y, margin)
    gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    has = ~all_zero(gradient)
    n = int(has.sum())
    if n == 0:
        return check(identifier, None, "no image has a gradient of the margin")
    true = [_true(probe, x[has], y[has], before[has], gradient[has], move) for move in MOVES]
    moves = ", ".join(f"{255 * move:g}/255" for move in MOVES)
    evidence = (
        f"steps of {moves} along the gradient change the margin by {TRUE[0]:g} to {TRUE[1]:g} times what it "
        f"predicts on {', '.join(map(str, true))} of {n} images; needs {LEAST_TRUE:.0%} for one of the steps"
    )
    return check(identifier, max(true) >= LEAST_TRUE * n, evidence)


def _true(probe: Probe, x: Tensor, y: Tensor, before: Tensor, gradient: Tensor, move: float) -> int:
    moved = (x + move * gradient.sign()).clamp(0, 1)
    with torch.no_grad():
        change = margin(probe.target.logits(moved), y) - before
    ratio = change / ((moved - x) * gradient).flatten(1).sum(dim=1)
    return int(((ratio >= TRUE[0]) & (ratio <= TRUE[1])).sum())
