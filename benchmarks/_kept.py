"""Finished measurements, kept at once, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Kept:
    """A file of measurements by everything that decides them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self.entries: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def take(self, key: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The measurement under `key`: the one that is kept, or what `work` finds, kept before it is returned."""
        name = json.dumps(key, sort_keys=True)
        if name not in self.entries:
            self.entries[name] = work()
            temporary = self.file.with_suffix(".tmp")
            temporary.write_text(json.dumps(self.entries, indent=1), encoding="utf-8")
            temporary.replace(self.file)
        found: dict[str, Any] = self.entries[name]
        return found
