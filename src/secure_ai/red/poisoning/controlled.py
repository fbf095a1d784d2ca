"""Poison drawn anew for every batch, by an attacker who controls the training (WaNet, 2102.10369, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import UsageError
from secure_ai.data.trigger_kinds import MAX_WHOLE
from secure_ai.data.triggers import Trigger, stamp

NOISE_FACTOR = 2  # covers a poisoned image, as in WaNet


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlledPoison:
    """What the attacker does to each batch.

    Attributes:
        poison_rate: of a batch that gets the trigger and the target's label, in (0, 0.3].
    """

    trigger: Trigger
    target_label: int
    poison_rate: float

    def __post_init__(self) -> None:
        """Refuse a rate that leaves no clean images beside the covers."""
        if not 0 < self.poison_rate <= 0.3:
            raise UsageError("bad poison rate", where="--poison-rate", expected="above 0, at most 0.3",
                             got=self.poison_rate)  # fmt: skip


def poisoned_batch(
    x: NDArray[Any], y: NDArray[np.int64], own: ControlledPoison, draw: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Copies of a batch's images and labels, the first of them poisoned.

    With a warp the next images are covers, twice as many: another warp of the same strength, drawn for the batch, and
    their own label. So the network learns this one warp and not warps at large (WaNet's noise mode).

    Note: one other warp a batch, where the paper adds noise to the field of each image.

    Args:
        x: (B, C, H, W) in random order; y: (B,).
        draw: a random number of the batch, 0 or larger.
    """
    count = round(own.poison_rate * len(x))
    x, y = x.copy(), y.copy()
    x[:count], y[:count] = stamp(x[:count], own.trigger), own.target_label
    if own.trigger.kind == "warp":
        values = {**own.trigger.values, "seed": draw % (MAX_WHOLE + 1)}
        covers = slice(count, (1 + NOISE_FACTOR) * count)
        x[covers] = stamp(x[covers], replace(own.trigger, settings=tuple(values.items())))
    return x, y
