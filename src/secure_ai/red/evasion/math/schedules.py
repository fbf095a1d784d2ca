"""How step sizes fall over an attack."""

from __future__ import annotations

import math


def annealed(bounds: tuple[float, float], step: int, steps: int) -> float:
    """The cosine schedule from bounds[0] at step 0 to bounds[1] at `steps`."""
    first, last = bounds
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2
