"""The keys `defences.*` of a recipe."""

from __future__ import annotations

from pydantic import Field

from secure_ai.runs.recipe.section import Section


class DefencesSection(Section):
    """How the recommended, the TRADES and the certified network are trained, and at which eps (linf)."""

    eps: float = Field(0.3, gt=0, le=1)
    epochs: int = Field(14, ge=1, le=1000)
    trades_epochs: int = Field(20, ge=1, le=1000)
    certified_eps: float = Field(0.1, gt=0, le=1)
    certified_epochs: int = Field(30, ge=1, le=1000)
    batch_size: int = Field(128, ge=1, le=100_000)
    pgd_steps: int = Field(40, ge=1, le=100_000)
