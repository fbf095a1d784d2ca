"""The JSON Schema of report.json, for whoever reads or checks one."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any


def load_schema() -> dict[str, Any]:
    """The schema of report.json, version 1 (JSON Schema 2020-12)."""
    text = importlib.resources.files("secure_ai.report").joinpath("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
