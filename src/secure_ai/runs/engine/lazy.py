"""Stage functions by name, imported when they run: a plan, a forecast or a run of known stages needs no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from secure_ai.runs.engine.stage import Outputs, Work


def stage(module: str, function: str) -> Callable[[Work], Outputs]:
    """The function `secure_ai.runs.stages.<module>.<function>`, looked up when called."""

    def call(work: Work) -> Outputs:
        outputs: Outputs = getattr(importlib.import_module(f"secure_ai.runs.stages.{module}"), function)(work)
        return outputs

    call.__name__ = function
    return call
