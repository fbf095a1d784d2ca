"""secure-ai: red-team, blue-team and audit an image classifier, and learn which of the numbers can be trusted.

Every command has a function of the same name: `secure_ai.attack(...)`, `secure_ai.run(...)`. `secure_ai.attacks` holds
single attacks: `secure_ai.attacks.pgd(...)`. All is imported when it is first used, so that `import secure_ai` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; at run time each is imported when it is first used
    from secure_ai import attacks as attacks
    from secure_ai import training as training
    from secure_ai.blue.guards.transforms import Transformed as Transformed
    from secure_ai.data.source import load_data as load_data
    from secure_ai.runs.model_spec import ModelSpec as ModelSpec
    from secure_ai.runs.verbs.attack import attack as attack
    from secure_ai.runs.verbs.audit import audit_code as audit_code
    from secure_ai.runs.verbs.audit import audit_log_verify as audit_log_verify
    from secure_ai.runs.verbs.backdoor import backdoor_plant as backdoor_plant
    from secure_ai.runs.verbs.backdoor_filter import backdoor_filter as backdoor_filter
    from secure_ai.runs.verbs.backdoor_remove import backdoor_remove as backdoor_remove
    from secure_ai.runs.verbs.backdoor_scan import backdoor_scan as backdoor_scan
    from secure_ai.runs.verbs.certify import certify as certify
    from secure_ai.runs.verbs.data import data_fetch as data_fetch
    from secure_ai.runs.verbs.data import data_show as data_show
    from secure_ai.runs.verbs.doctor import doctor as doctor
    from secure_ai.runs.verbs.harden import harden as harden
    from secure_ai.runs.verbs.harden import hardened as hardened
    from secure_ai.runs.verbs.input_guard import input_guard as input_guard
    from secure_ai.runs.verbs.replay import replay as replay
    from secure_ai.runs.verbs.report import read_report as read_report
    from secure_ai.runs.verbs.report import render_report as render_report
    from secure_ai.runs.verbs.report import threats_show as threats_show
    from secure_ai.runs.verbs.run import forecast as forecast
    from secure_ai.runs.verbs.run import run as run
    from secure_ai.runs.verbs.train import train as train

__version__ = "0.1.0"

_WHERE = {
    "ModelSpec": "runs.model_spec",
    "Transformed": "blue.guards.transforms",
    "attack": "runs.verbs.attack",
    "audit_code": "runs.verbs.audit",
    "audit_log_verify": "runs.verbs.audit",
    "backdoor_filter": "runs.verbs.backdoor_filter",
    "backdoor_plant": "runs.verbs.backdoor",
    "backdoor_remove": "runs.verbs.backdoor_remove",
    "backdoor_scan": "runs.verbs.backdoor_scan",
    "certify": "runs.verbs.certify",
    "data_fetch": "runs.verbs.data",
    "data_show": "runs.verbs.data",
    "doctor": "runs.verbs.doctor",
    "forecast": "runs.verbs.run",
    "harden": "runs.verbs.harden",
    "hardened": "runs.verbs.harden",
    "input_guard": "runs.verbs.input_guard",
    "load_data": "data.source",
    "read_report": "runs.verbs.report",
    "render_report": "runs.verbs.report",
    "replay": "runs.verbs.replay",
    "run": "runs.verbs.run",
    "threats_show": "runs.verbs.report",
    "train": "runs.verbs.train",
}

__all__ = ["__version__", "attacks", "training", *sorted(_WHERE)]


if not TYPE_CHECKING:  # or a type checker would take any name for one that exists

    def __getattr__(name: str) -> Any:
        """Import what is public when it is first asked for."""
        if name in ("attacks", "training"):
            return importlib.import_module(f"secure_ai.{name}")
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"secure_ai.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
