"""The geometry of the budgets: distances, projections onto ball ∩ [0, 1], random starts, steepest steps.

Images are (N, C, H, W) float in [0, 1]; each sample has its own ball of radius eps around its `x`. l0 counts the values
that differ (one channel of one pixel is one value).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.seeds import normal, uniform

L2_ROUNDS = 12  # the active set grows every round; 3 to 6 are needed on images, and stopping early stays inside
L1_ROUNDS = 60  # of which about 8 are needed; the bisection alone would end within 30
L1_TOLERANCE = 5e-7  # relative, the precision of a float32 sum
SLACKS = (2e-6, 1e-5, 1e-4)  # relative: rounding to float32 may add the first to an l2 or l1 norm, else move less
L1_FRACTION = 0.01  # SLIDE's fraction of coordinates in one l1 step (1904.13000, section 3.1: the 99th percentile)
TINY = 1e-12
SMALLEST = torch.finfo(torch.float32).tiny


def distance(x_adv: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """The norm of `x_adv - x` per sample, (N,), in the inputs' dtype."""
    delta = (x_adv - x).flatten(1)
    if norm == "linf":
        return delta.abs().amax(dim=1)
    if norm == "l2":
        return delta.square().sum(dim=1).sqrt()
    if norm == "l1":
        return delta.abs().sum(dim=1)
    return (delta != 0).sum(dim=1).to(delta.dtype)


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))


def project(x_adv: Tensor, x: Tensor, budget: PerturbationBudget) -> Tensor:
    """The point of ball ∩ [0, 1] nearest to `x_adv`, (N, C, H, W).

    linf, l2 and l1 are Euclidean projections onto the intersection (l1: 2103.01208, proposition 2.1), to float32
    precision; l0 clips to [0, 1] and keeps the floor(eps) values that moved most.
    """
    if budget.norm == "linf":
        return torch.clamp(x_adv, x - budget.eps, x + budget.eps).clamp_(0, 1)
    delta = (x_adv - x).flatten(1)
    low, high = -x.flatten(1), 1 - x.flatten(1)
    if budget.norm == "l0":
        moved = _l0_delta(torch.clamp(delta, low, high), int(budget.eps))
        return (x + moved.view_as(x)).clamp_(0, 1)
    rule = _l2_delta if budget.norm == "l2" else _l1_delta
    moved = rule(delta, low, high, budget.eps).view_as(x)
    return _shrink_overshoot((x + moved).clamp_(0, 1), x, moved, budget)


def _shrink_overshoot(result: Tensor, x: Tensor, moved: Tensor, budget: PerturbationBudget) -> Tensor:
    """`x + moved` is rounded to float32: where that left the ball, move a little less."""
    for slack in SLACKS:
        measured = distance(result.double(), x.double(), budget.norm)
        over = measured > budget.eps * (1 + SLACKS[0])
        if not bool(over.any()):
            break
        scale = torch.where(over, (1 - slack) * budget.eps / measured.clamp_min(TINY), 1.0).to(x.dtype)
        moved = moved * _per_sample(scale, x)
        result = (x + moved).clamp_(0, 1)
    return result


def _l2_delta(delta: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    """The solution is clip(s * delta, low, high) for the one s in [0, 1] that gives norm eps.

    With `free` the coordinates not clipped at the present s, s = sqrt((eps^2 - clipped mass) / free mass of delta).
    Starting where nothing is clipped, s only grows: every round is inside the ball, and the last is exact.
    """
    clipped = torch.clamp(delta, low, high)
    inside = clipped.norm(dim=1) <= eps
    scale = torch.where(inside, 1.0, eps / delta.norm(dim=1).clamp_min(TINY))
    for _ in range(L2_ROUNDS):
        moved = torch.clamp(delta * scale[:, None], low, high)
        free = moved == delta * scale[:, None]
        stuck_mass = (moved.square() * ~free).sum(dim=1)
        free_mass = (delta.square() * free).sum(dim=1)
        grown = ((eps * eps - stuck_mass).clamp_min(0) / free_mass.clamp_min(TINY)).sqrt().clamp_max(1)
        grown = torch.where(inside, 1.0, torch.maximum(grown, scale))
        if bool((grown <= scale * (1 + 1e-6)).all()):
            break
        scale = grown
    return torch.clamp(delta * scale[:, None], low, high)


def _l1_delta(delta: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    """The solution is sign(delta) * clip(|delta| - shift, 0, room) for the one shift >= 0 that gives norm eps."""
    size = delta.abs()
    room = torch.where(delta > 0, high, -low)
    over = torch.minimum(size, room).sum(dim=1) > eps
    moved = torch.clamp(delta, low, high)
    if bool(over.any()):
        shift = _l1_shift(size[over], room[over], eps)
        shrunk = (size[over] - shift[:, None]).clamp_min_(0).minimum(room[over])
        moved[over] = delta[over].sign() * shrunk
    return moved


def _l1_shift(size: Tensor, room: Tensor, eps: float) -> Tensor:
    """The shift (R,) at which the norm of clip(size - shift, 0, room) is eps; at shift 0 it is above eps.

    The norm falls with the shift and is piecewise linear, so Newton's step is exact on the segment that holds the
    root; a bracket halves the interval where the step would leave it. (Sorting the 2 D corners gives the same, slower.)
    """
    below, above = torch.zeros_like(size[:, 0]), size.amax(dim=1)
    shift = below
    for _ in range(L1_ROUNDS):
        left = size - shift[:, None]
        excess = left.clamp_min(0).minimum(room).sum(dim=1) - eps
        settled = excess.abs() <= L1_TOLERANCE * eps
        if bool(settled.all()):
            break
        below, above = torch.where(excess > 0, shift, below), torch.where(excess > 0, above, shift)
        shrinking = ((left > 0) & (left < room)).sum(dim=1)
        newton = shift + excess / shrinking
        moved = torch.where((newton > below) & (newton < above), newton, (below + above) / 2)
        shift = torch.where(settled, shift, moved)  # a settled sample must not be thrown out again
    return shift


def _l0_delta(delta: Tensor, keep: int) -> Tensor:
    if keep >= delta.shape[1]:
        return delta
    kept = delta.abs().topk(keep, dim=1).indices
    return torch.zeros_like(delta).scatter(1, kept, delta.gather(1, kept))


def random_start(x: Tensor, budget: PerturbationBudget, generator: torch.Generator) -> Tensor:
    """A random point of ball ∩ [0, 1] for every sample of the shard, (N, C, H, W).

    Uniform in the ball (l0: eps values chosen evenly, set to uniform values), then clipped to [0, 1], which brings no
    value further from `x`. Draw before dropping any sample, so that the draw does not depend on what was dropped.
    """
    flat = x.flatten(1)
    count, dimensions = flat.shape
    if budget.norm == "linf":
        delta = (2 * uniform(flat.shape, generator, x.device) - 1) * budget.eps
    elif budget.norm == "l2":
        direction = normal(flat.shape, generator, x.device)
        radius = budget.eps * uniform((count, 1), generator, x.device) ** (1 / dimensions)
        delta = direction / direction.norm(dim=1, keepdim=True).clamp_min(TINY) * radius
    elif budget.norm == "l1":
        sign = uniform(flat.shape, generator, x.device).sub_(0.5).sign_()
        lengths = torch.empty((count, dimensions + 1), device="cpu").exponential_(generator=generator).to(x.device)
        delta = budget.eps * sign * lengths[:, :-1] / lengths.sum(dim=1, keepdim=True)
    else:
        values, order = uniform(flat.shape, generator, x.device), uniform(flat.shape, generator, x.device)
        chosen = order.argsort(dim=1) < int(budget.eps)
        delta = torch.where(chosen, values - flat, 0.0)
    return project(x + delta.view_as(x).to(x.dtype), x, budget)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The step of norm 1 that raises a linear function with this gradient most, (N, C, H, W).

    linf: the sign. l2: the normalised gradient. l1 and l0: the sign of the largest 1 % of the values (at least one), in
    equal parts: SLIDE (1904.13000), because the true steepest step moves one value only. Zero stays zero.
    """
    if norm == "linf":
        return gradient.sign()
    flat = gradient.flatten(1)
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(
        SMALLEST
    )  # saturated logits: 1e-30 has a direction too
    if norm == "l2":
        flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(TINY)
    else:
        count = max(1, math.ceil(L1_FRACTION * flat.shape[1]))
        chosen = flat.abs().topk(count, dim=1).indices
        flat = torch.zeros_like(flat).scatter(1, chosen, flat.gather(1, chosen).sign() / count)
    return flat.view_as(gradient)


def linear_maximiser(gradient: Tensor, x: Tensor, budget: PerturbationBudget) -> Tensor:
    """The l1 or l0 perturbation within ball ∩ [0, 1] that raises a linear function most, (N, C, H, W).

    l0: the floor(eps) values with the largest gain go to the end of [0, 1] that they are drawn to. l1: values go there
    in order of |gradient| until eps is spent.
    """
    gain, flat = gradient.flatten(1), x.flatten(1)
    room = torch.where(gain > 0, 1 - flat, flat) * (gain != 0)
    if budget.norm == "l0":
        kept = (gain.abs() * room).topk(min(int(budget.eps), flat.shape[1]), dim=1).indices
        length = torch.zeros_like(flat).scatter(1, kept, room.gather(1, kept))
    else:
        order = gain.abs().argsort(dim=1, descending=True)
        in_order = room.gather(1, order)
        spent_before = in_order.cumsum(dim=1) - in_order
        filled = torch.minimum(in_order, (budget.eps - spent_before).clamp_min(0))
        length = torch.zeros_like(flat).scatter(1, order, filled)
    return (gain.sign() * length).view_as(x)
