"""How pixels in [0, 1] become what a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTransform:
    """First to [low, high], then (x - mean) / std per channel, then perhaps channels last."""

    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels_last: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to x: (N, C, H, W); the result is (N, H, W, C) with `channels_last`."""
        if (self.low, self.high) != (0.0, 1.0):
            x = x * (self.high - self.low) + self.low
        if self.mean or self.std:
            shape = (1, -1, 1, 1)
            mean = torch.tensor(self.mean or (0.0,), dtype=x.dtype, device=x.device).view(shape)
            std = torch.tensor(self.std or (1.0,), dtype=x.dtype, device=x.device).view(shape)
            x = (x - mean) / std
        return x.permute(0, 2, 3, 1) if self.channels_last else x
