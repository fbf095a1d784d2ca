"""The audit stages of a run: Bandit over this package, the cache demonstration, and both reports' Bandit stories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import secure_ai
from secure_ai.audit.cache_demo import UNSAFE_SWITCH, demonstrate_cache
from secure_ai.audit.code import CodeAudit, audit_code
from secure_ai.audit.demonstrations import demonstrate_bandit
from secure_ai.audit.triage import OWN_PACKAGE
from secure_ai.core.findings import Finding
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.stage import Outputs, Stage, Work
from secure_ai.runs.stages import refusals

PACKAGE = Path(secure_ai.__file__).parent


def stages(seed: int, code_digest: str) -> list[Stage]:
    """The audit stages; the first depends on every file of the package."""
    return [
        Stage(id="audit/code", function=code, settings={"source": code_digest}, cost_seconds=8),
        Stage(
            id="audit/cache",
            function=cache,
            settings={"allow_unsafe_pickle": os.environ.get(UNSAFE_SWITCH) == "1"},
            cost_seconds=1,
        ),
        Stage(id="audit/demonstrations", function=demonstrations, cost_seconds=4),
        Stage(id="audit/refusals", function=refusals.measure, settings={"seed": seed}, cost_seconds=2),
    ]


def code(work: Work) -> Outputs:
    """Bandit over the package as it is installed."""
    audit = audit_code(PACKAGE, events=work.events, exclude=["__pycache__"], triage=OWN_PACKAGE)
    return {
        "result.json": json_bytes(_result(audit.findings, _facts(audit))),
        "bandit.json": audit.bandit_json,
        "bandit.txt": audit.bandit_txt,
    }


def _facts(audit: CodeAudit) -> dict[str, Any]:
    return {
        "audit/code/outcome": audit.outcome.value,
        "audit/code/files": audit.files,
        "audit/code/lines": audit.lines,
    }


def _result(findings: tuple[Finding, ...], values: dict[str, Any]) -> dict[str, Any]:
    return {"findings": [finding.as_json() for finding in findings], "values": values}


def cache(work: Work) -> Outputs:
    """Report 1's cache: JSON by default; with the switch set, a pickle really runs code, in a child."""
    shown = demonstrate_cache(allow_unsafe=bool(work.settings["allow_unsafe_pickle"]), events=work.events)
    return {"result.json": json_bytes(_result(shown.findings, {"audit/cache": shown.facts}))}


def demonstrations(work: Work) -> Outputs:
    """What Bandit said of both reports' code, and what it says after the fix."""
    shown = demonstrate_bandit(events=work.events)
    return {"result.json": json_bytes(_result(shown.findings, dict(shown.facts)))}
