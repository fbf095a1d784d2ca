"""Report 1's protocol: the keys `report_1.*` of a recipe; the defaults are the report's own figures."""

from __future__ import annotations

from pydantic import Field

from secure_ai.runs.recipe.section import Section


class Report1Section(Section):
    """How report 1's networks are trained, poisoned and attacked."""

    epochs: int = Field(5, ge=1, le=1000)
    defence_epochs: int = Field(5, ge=1, le=1000)
    batch_size: int = Field(128, ge=1, le=100_000)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    validation_share: float = Field(0.1, ge=0, lt=1)
    eps: float = Field(0.25, gt=0, le=1)
    adversarial_ratio: float = Field(0.5, gt=0, le=1)
    poison_count: int = Field(100, ge=1)
    target_label: int = Field(7, ge=0, le=9)
    patch_size: int = Field(4, ge=1, le=28)
    patch_value: float = Field(1.0, ge=0, le=1)
    badnets_rate: float = Field(0.01, gt=0, le=1)
    badnets_place: str = Field("top-left", max_length=20)
    pgd_steps: int = Field(40, ge=1, le=100_000)
