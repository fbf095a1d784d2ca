"""The nearest point of a hyperplane within [0, 1], in linf, l2 and l1: the step of FAB (1907.02044, section 2.2).

Along sign(w) every value of the image has a room up to 0 or 1. The shortest way to raise <w, x> by `gap` moves every
value by min(t, room) in linf, by min(t * |w|, room) in l2, and in l1 the values with the largest |w| by all their room,
one after the other. Where all the room does not suffice, all of it is taken.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from secure_ai.core.budget import Norm

ROUNDS = 40  # about 6 are needed on images; more values reach their room every round, so it ends
FIRST_TRIED = 64  # l1 sorts only this many values unless they do not suffice
TINY = 1e-12
ORDER: dict[Norm, float] = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}


def length(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each row of `delta` (R, D)."""
    result: Tensor = torch.linalg.vector_norm(delta, ORDER[norm], dim=1)
    return result


def dual_length(gradient: Tensor, norm: Norm) -> Tensor:
    """The dual norm (R,): how fast a linear function rises along the steepest step of norm 1."""
    return length(gradient, DUAL[norm])


def towards_hyperplane(x: Tensor, normal: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The shortest delta with <normal, delta> = gap that keeps x + delta in [0, 1].

    Args:
        x: (R, D) in [0, 1].
        normal: (R, D).
        gap: (R,), of either sign.
        norm: linf, l2 or l1.

    Returns:
        (R, D); where the hyperplane does not meet [0, 1], the corner nearest to it.
    """
    direction = normal * gap.sign()[:, None]
    weight = direction.abs()
    room = torch.where(direction > 0, 1 - x, x)
    length = _greedy(weight, room, gap.abs()) if norm == "l1" else _spread(weight, room, gap.abs(), norm)
    return direction.sign() * length


def _spread(weight: Tensor, room: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """Linf and l2: the gain sum(weight * min(t * pull, room)) is concave in t, so Newton from 0 never overshoots."""
    pull = weight.new_ones(()) if norm == "linf" else weight
    gain, most = weight * pull, weight * room
    nothing, t = weight.new_zeros(()), torch.zeros_like(gap)
    for _ in range(ROUNDS):
        full = t[:, None] * pull >= room
        reached = torch.where(full, most, nothing).sum(dim=1)
        rate = torch.where(full, nothing, gain).sum(dim=1)
        farther = torch.where(rate > TINY, (gap - reached) / rate.clamp_min(TINY), t)
        if bool((farther <= t * (1 + 1e-6)).all()):
            break
        t = torch.maximum(t, farther)
    exhausted = most.sum(dim=1) <= gap
    return torch.where(exhausted[:, None], room, torch.minimum(t[:, None] * pull, room)) * (weight > 0)


def _greedy(weight: Tensor, room: Tensor, gap: Tensor) -> Tensor:
    size = weight.shape[1]
    length = torch.zeros_like(weight)
    index = torch.arange(len(weight), device=weight.device)
    for count in (min(FIRST_TRIED, size), size):
        top = weight[index].topk(count, dim=1)
        allowed = room[index].gather(1, top.indices)
        gains = top.values * allowed
        before = gains.cumsum(dim=1) - gains
        left = (gap[index, None] - before).clamp_min(0)
        taken = torch.minimum(left / top.values.clamp_min(TINY), allowed) * (top.values > 0)
        length[index] = torch.zeros_like(weight[index]).scatter(1, top.indices, taken)
        index = index[(gains.sum(dim=1) < gap[index]) & (count < size)]
        if not len(index):
            break
    return length
