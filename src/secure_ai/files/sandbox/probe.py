"""What a confined child cannot do on this machine, found by trying it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB
from secure_ai.files.sandbox.confine import Confinement
from secure_ai.files.sandbox.launch import run_child
from secure_ai.files.sandbox.probe_child import ATTEMPTS, SECRET, SPARE

_CHILD = "secure_ai.files.sandbox.probe_child"
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Tried:
    """One thing that a broken parser would try: what, whether it was denied, and the kernel's reason."""

    what: str
    denied: bool
    reason: str


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What confines a child on this machine, and what it was denied."""

    confinement: Confinement
    tried: tuple[Tried, ...]

    @property
    def allowed(self) -> tuple[str, ...]:
        """What the child could do although it should not."""
        return tuple(attempt.what for attempt in self.tried if not attempt.denied)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        tried = [{"what": t.what, "denied": t.denied, "reason": t.reason} for t in self.tried]
        return {"confinement": self.confinement.as_json(), "tried": tried}


def sandbox_report() -> SandboxReport:
    """Start a confined child that tries to get out; it takes half a second and harms nothing where it succeeds.

    Raises:
        ChildFailedError, EnvironmentFailedError: the child could not do its work.
    """
    with tempfile.TemporaryDirectory(prefix="secure-ai-probe-") as name:
        for file in (SECRET, SPARE):
            (Path(name) / file).write_bytes(b"outside")
        request = json.dumps({"folder": name, "other": os.getpid()}).encode()
        answer = run_child(_CHILD, request, timeout_s=_TIMEOUT_S, max_answer_bytes=MIB, max_memory_bytes=1024 * MIB)
    said = parse_json(answer.content, where=_CHILD)
    tried = tuple(Tried(what, bool(said[what]), str(said[what])) for what in ATTEMPTS)
    return SandboxReport(answer.confinement, tried)
