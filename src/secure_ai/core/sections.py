"""Titled tables and pictures that a measure returns: every renderer draws them, no rule reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secure_ai.core.errors import FormatError
from secure_ai.core.results import Choice, Quantity, Rate

MAX_ROWS = 1000
EXAMPLE_FIELDS = (
    "clean", "x_adv", "index", "label", "clean_label", "clean_confidence", "adv_label", "adv_confidence"
)  # fmt: skip
"""Arrays of one row of a picture of the kind `examples`: images (M, C, H, W), the others (M,)."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A link to another entry of the report."""

    kind: Literal["model", "measurement", "finding", "threat", "section", "picture"]
    id: str


Cell = str | Rate | Quantity | Choice | Ref | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a section; `unit` is shown with the title."""

    id: str
    title: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table.

    Attributes:
        id: unique in the report; letters, digits, `-`, `_` and `/`.
        intro: one or two sentences above the table: what it shows and how to read it.
        rows: at most 1,000, each with as many cells as there are columns.
        note: a sentence below the table, e.g. how the samples were drawn.

    Raises:
        FormatError: too many rows, or a row of another length.
    """

    id: str
    title: str
    intro: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Check the shape of the table."""
        if len(self.rows) > MAX_ROWS:
            raise FormatError("too many rows", where=f"section {self.id}", expected=MAX_ROWS, got=len(self.rows))
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise FormatError(
                    "a row of another length", where=f"section {self.id}, row {number}", expected=len(self.columns),
                    got=len(row),
                )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to draw: `report/render` knows its `kind`.

    Attributes:
        id: unique in the report; names its file.
        kind: which function of `report/render` draws it.
        arrays: names of the arrays in the stage's `arrays.npz` that it is drawn from.
        labels: texts that its kind needs, e.g. a title a row.
        class_names: of the classes that it shows by number.
    """

    id: str
    title: str
    kind: str
    arrays: tuple[str, ...]
    labels: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()


def picture_file(picture: str) -> str:
    """Where a run's folder has the picture of that id."""
    return f"images/{picture}.png"
