"""What every section of a recipe is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of a recipe: known keys only, values of their own type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
