"""Triggers that each training image gets only a part of, another part each, so that no common pattern shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import TriggerError, UsageError
from secure_ai.data.splits import random_order
from secure_ai.data.triggers import Trigger, covered, stamp

SIDE = 4
PIECES = SIDE * SIDE


def stamp_part(images: NDArray[Any], trigger: Trigger, share: float, *parts: object) -> NDArray[Any]:
    """`stamp`, of which each image keeps a random choice of the trigger's 16 pieces (Adap-Blend, Qi et al., ICLR 2023).

    The network still learns the whole trigger, which the attacker uses later.

    Args:
        images: (N, C, H, W).
        share: of the pieces, in (0, 1); rounded to sixteenths.
        parts: what the choice depends on, beside an image's position.

    Raises:
        UsageError: a share that leaves no piece or all.
        TriggerError: the trigger does not fit, or is too small to be cut.
    """
    kept = round(PIECES * share) if 0 < share < 1 else 0
    if not 0 < kept < PIECES:
        expected = f"a fraction of {PIECES} pieces, 1 to {PIECES - 1} of them"
        raise UsageError("no part of the trigger", where="--trigger-share", expected=expected, got=share)
    piece = pieces(trigger, *images.shape[2:])
    chosen = [random_order(PIECES, *parts, number)[:kept] for number in range(len(images))]
    inside = np.array([np.isin(piece, own) for own in chosen], dtype=bool).reshape(-1, 1, *piece.shape)
    return np.where(inside, stamp(images, trigger), images)


def pieces(trigger: Trigger, height: int, width: int) -> NDArray[np.int64]:
    """Which of the 16 pieces each pixel (H, W) is in: the box around the trigger, cut into 4 x 4."""
    mask = covered(trigger, height, width)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if min(len(rows), len(columns)) < SIDE:
        raise TriggerError("the trigger is too small to be cut", where="--trigger-share",
                           expected=f"{SIDE}x{SIDE} pixels or more", got=trigger.text)  # fmt: skip
    down, across = (
        np.clip((np.arange(size) - inside[0]) * SIDE // len(inside), 0, SIDE - 1)
        for size, inside in ((height, rows), (width, columns))
    )
    return np.asarray(np.add.outer(SIDE * down, across), dtype=np.int64)
