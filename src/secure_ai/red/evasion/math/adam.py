"""Adam's direction for attacks, whose samples leave one by one: the moments live with the samples."""

from __future__ import annotations

from torch import Tensor

MEAN_DECAY, SQUARE_DECAY, TINY = 0.9, 0.999, 1e-8


def adam_direction(gradient: Tensor, mean: Tensor, square: Tensor, count: int) -> Tensor:
    """The bias-corrected mean gradient over its root mean square (1412.6980, algorithm 1).

    Args:
        gradient: of the `count`-th update, from 1.
        mean, square: the moments, changed in place; zero before the first update.
        count: updates so far with this one.
    """
    mean.mul_(MEAN_DECAY).add_(gradient, alpha=1 - MEAN_DECAY)
    square.mul_(SQUARE_DECAY).addcmul_(gradient, gradient, value=1 - SQUARE_DECAY)
    scale = (square / (1 - SQUARE_DECAY**count)).sqrt() + TINY
    return mean / (1 - MEAN_DECAY**count) / scale
