"""How a class is written for people: by its number, and by its name where somebody names it."""

from __future__ import annotations

from collections.abc import Sequence


def class_text(label: int, names: Sequence[str]) -> str:
    """E.g. `3 cat`, or `3` where no name is known."""
    return f"{label} {names[label]}" if 0 <= label < len(names) else str(label)
