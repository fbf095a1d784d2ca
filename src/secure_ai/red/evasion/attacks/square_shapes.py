"""Square's random windows: where they lie, how large they are, and the patterns put into them (1912.00049)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from secure_ai.core.budget import Norm

SCHEDULE = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000 after which the fraction halves
SCHEDULE_QUERIES = 10_000
TILES = 5  # per side, of the first l2 or l1 perturbation
L1_DECAY, L2_DECAY = 4, 2  # how fast a pattern falls off from its centre


def fraction_at(query: int, p_init: float, query_budget: int, *, rescale: bool) -> float:
    """Fraction of the image that a window covers at this query (section 3.2).

    Args:
        query: 0 for the first window tried.
        p_init: the fraction at the beginning.
        rescale: spread the schedule over `query_budget`; else it is that of 10,000 queries, cut off.
    """
    at = int(query / query_budget * SCHEDULE_QUERIES) if rescale else query
    return p_init * 0.5 ** sum(at > bound for bound in SCHEDULE)


def window_side(fraction: float, height: int, width: int, norm: Norm) -> int:
    """Side of the window in pixels: at least 1 (linf), at least 3 and odd (l2, l1), at most the image's side."""
    side = max(round(math.sqrt(fraction * height * width)), 1 if norm == "linf" else 3)
    if norm != "linf" and side % 2 == 0:
        side += 1
    return min(side, height, width)


def place(height: int, width: int, side: int, generator: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns of a window, one for all samples of the shard.

    Note:
        The paper takes all places (algorithms 2 and 3); its authors' code and AutoAttack never touch the last row
        and column. We follow the code, which is the protocol: on images with an empty margin it also breaks more.
    """
    top = int(torch.randint(max(height - side, 1), (), generator=generator, device="cpu"))
    left = int(torch.randint(max(width - side, 1), (), generator=generator, device="cpu"))
    return slice(top, top + side), slice(left, left + side)


def signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Minus or plus one, evenly."""
    return torch.randint(2, shape, generator=generator, dtype=torch.float32, device="cpu") * 2 - 1


def bump(rows: int, columns: int, decay: int) -> Tensor:
    """A pattern of nested rectangles around the centre: the m-th adds 1 / m ** decay (section 3.4, equation 2)."""
    pattern = torch.zeros(rows, columns, device="cpu")
    middle_row, middle_column = rows // 2, columns // 2
    for ring in range(max(rows, columns) // 2 + 1):
        top, left = max(middle_row - ring, 0), max(middle_column - ring, 0)
        pattern[top : middle_row + ring + 1, left : middle_column + ring + 1] += 1.0 / (ring + 1) ** decay
    return pattern


def pattern(side: int, norm: Norm, generator: torch.Generator) -> Tensor:
    """Two bumps of opposite sign, one above the other or side by side, of norm 1: (side, side)."""
    decay = L2_DECAY if norm == "l2" else L1_DECAY
    halves = [part for part in (side // 2, side - side // 2) if part]
    bumps = [bump(rows, side, decay) for rows in halves]
    order = 2 if norm == "l2" else 1
    both = torch.cat([sign * part / part.norm(order) for sign, part in zip((1, -1), bumps, strict=False)])
    both /= both.norm(order)
    return both if bool(torch.rand((), generator=generator, device="cpu") < 0.5) else both.T


def tiled(shape: tuple[int, ...], norm: Norm, generator: torch.Generator) -> Tensor:
    """The first l2 or l1 perturbation: 5 x 5 patterns with a random sign each, (N, C, H, W)."""
    count, channels, height, width = shape
    side = max(min(height, width) // TILES, 1)
    delta = torch.zeros(shape, device="cpu")
    for top in range((height % side) // 2, height - side + 1, side):
        for left in range((width % side) // 2, width - side + 1, side):
            tile = pattern(side, norm, generator) * signs((count, channels, 1, 1), generator)
            delta[:, :, top : top + side, left : left + side] += tile
    return delta
