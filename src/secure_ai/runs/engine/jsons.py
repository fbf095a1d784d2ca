"""JSON as stages put it out."""

from __future__ import annotations

import json
from typing import Any


def json_bytes(content: Any) -> bytes:
    """Sorted keys, so that equal content has equal bytes; NaN is refused (ValueError)."""
    return json.dumps(content, sort_keys=True, allow_nan=False).encode()
