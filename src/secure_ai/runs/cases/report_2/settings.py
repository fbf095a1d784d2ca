"""Report 2's protocol: the keys `report_2.*` of a recipe; the defaults are the report's own figures."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from secure_ai.runs.recipe.section import Section

Mode = Literal["baseline", "poisoned", "adv_only", "adv_training"]


class Report2Section(Section):
    """How report 2's networks are trained, poisoned and attacked, and which of its modes are done."""

    modes: list[Mode] = Field(list(get_args(Mode)), min_length=1)
    epochs: int = Field(5, ge=1, le=1000)
    defence_epochs: int = Field(3, ge=1, le=1000)
    batch_size: int = Field(64, ge=1, le=100_000)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    defence_learning_rate: float = Field(1e-4, gt=0, le=1)
    eps: float = Field(0.3, gt=0, le=1)
    first: int = Field(640, ge=1)
    poison_count: int = Field(100, ge=1)
    source_label: int = Field(7, ge=0, le=9)
    target_label: int = Field(1, ge=0, le=9)
    patch_size: int = Field(4, ge=1, le=28)
    pgd_steps: int = Field(40, ge=1, le=100_000)
