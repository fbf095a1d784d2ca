"""Attacks that do not depend on the size of a network's scores: outputs times a power of two give the same bits.

Floors such as 1e-12 keep a division by 0 away; against scores of 1e-8 they would decide the attack. Everything here
multiplies by powers of two, which is exact, so that results on ordinary networks do not change.
"""

from __future__ import annotations

import torch
from torch import Tensor

USUAL_EXPONENT = 5  # of the spread of an ordinary network's logits, 16 to 32


def to_unit(values: Tensor) -> Tensor:
    """The power of two for each row of (R, ...) that brings its largest absolute value into [1/2, 1), (R,); 1 for 0."""
    largest = values.flatten(1).abs().amax(dim=1)
    return _power(torch.where(largest > 0, -torch.frexp(largest).exponent, 0))


def unit_sized(gradient: Tensor) -> Tensor:
    """Each of (R, C, H, W) times `to_unit` of it: the same direction, with a length that no floor reaches."""
    return gradient * to_unit(gradient).view(-1, *(1,) * (gradient.dim() - 1))


def to_usual_logits(logits: Tensor) -> Tensor:
    """The power of two (R,) that brings the spread of each row of clean logits (R, K) to between 16 and 32.

    For objectives that add a margin to a distance, and so weigh one against the other.
    """
    spread = logits.amax(dim=1) - logits.amin(dim=1)
    return _power(torch.where(spread > 0, USUAL_EXPONENT - torch.frexp(spread).exponent, 0))


def _power(exponent: Tensor) -> Tensor:
    return torch.ldexp(torch.ones(exponent.shape, device=exponent.device), exponent.clamp(-126, 126))
