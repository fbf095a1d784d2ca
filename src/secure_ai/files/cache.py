"""Where this user's cache is."""

from __future__ import annotations

import os
from pathlib import Path

from secure_ai.core.errors import DataUnavailableError


def cache_root() -> Path:
    """$XDG_CACHE_HOME/secure-ai, or ~/.cache/secure-ai where that is unset or not absolute.

    Raises:
        DataUnavailableError: this user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        raise DataUnavailableError("no home folder for the cache", hint="set XDG_CACHE_HOME") from None
    return root / "secure-ai"
