"""secure-ai: red-team, blue-team and audit an image classifier, and learn which of the numbers can be trusted.

The verbs are those of the command line, with the same names: `secure_ai.attack(...)`, `secure_ai.run(...)`. They are
imported when first used, so that `import secure_ai` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_VERBS = {
    "attack": "secure_ai.runs.verbs.attack",
    "audit_code": "secure_ai.runs.verbs.audit",
    "backdoor_filter": "secure_ai.runs.verbs.backdoor_filter",
    "backdoor_plant": "secure_ai.runs.verbs.backdoor",
    "backdoor_remove": "secure_ai.runs.verbs.backdoor_remove",
    "backdoor_scan": "secure_ai.runs.verbs.backdoor_scan",
    "data_fetch": "secure_ai.runs.verbs.data",
    "data_show": "secure_ai.runs.verbs.data",
    "replay": "secure_ai.runs.verbs.replay",
    "run": "secure_ai.runs.verbs.run",
    "train": "secure_ai.runs.verbs.train",
}

__all__ = ["__version__", *sorted(_VERBS)]  # the verbs are strings


def __getattr__(name: str) -> Any:
    """Import a verb when it is first asked for."""
    if name not in _VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_VERBS[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
