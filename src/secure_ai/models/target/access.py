"""How much of itself a target offers to an attack."""

from __future__ import annotations

from typing import Literal

Access = Literal["gradients", "scores", "labels"]

LEVELS: tuple[Access, ...] = ("labels", "scores", "gradients")
"""From least to most: what offers one offers those before it."""


def offers(have: Access, need: Access) -> bool:
    """Whether a target that offers `have` is enough for an attack that needs `need`."""
    return LEVELS.index(have) >= LEVELS.index(need)
