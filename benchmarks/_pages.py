"""What the generated pages share: tables, and where the figures of a section come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table; bars in cells are escaped."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(columns), line(["---"] * len(columns)), *(line(row) for row in rows), ""]


def source(result: Result) -> list[str]:
    """Where the figures of a section come from."""
    machine = result["machine"]
    units = ", ".join(machine["bf16_units"]) or "none"
    return [
        f"Command: `{result['command']}`. Commit {result['commit']}. Machine: {machine['processor']}, "
        f"{machine['cores']} cores, bf16 units: {units}; torch {result['versions']['torch']}.",
        "",
    ]


def cell_text(value: object) -> object:
    """A value as a cell shows it."""
    return "-" if value is None else "/".join(str(part) for part in value) if isinstance(value, list) else value
