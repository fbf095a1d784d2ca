"""The verbs `audit code` and `audit log verify`."""

from __future__ import annotations

from pathlib import Path

from secure_ai.audit.code import CodeAudit
from secure_ai.audit.code import audit_code as run_audit
from secure_ai.core.errors import EXIT_FINDINGS, EXIT_INCONCLUSIVE, EXIT_OK, LogError
from secure_ai.core.events import ChainState, EventSink, ignore_event, verify_log
from secure_ai.core.findings import FailOn, Outcome, exceeds


def audit_code(
    path: str | Path, *, fail_on: FailOn = "high", events: EventSink = ignore_event
) -> tuple[CodeAudit, int]:
    """Bandit over `path`, and the exit code that the outcome stands for."""
    result = run_audit(Path(path), events=events)
    if result.outcome in (Outcome.ERROR, Outcome.NOT_CHECKED):
        return result, EXIT_INCONCLUSIVE
    failed = exceeds(result.findings, fail_on)
    return result, EXIT_FINDINGS if failed else EXIT_OK


def audit_log_verify(file: str | Path) -> ChainState:
    """Check the hash chain of an event log: how many records, and the last digest.

    Raises:
        LogError: the chain is broken, or there is no record: a log cut to nothing holds no chain to check.
        FileMissingError: there is no such log.
    """
    state = verify_log(Path(file))
    if not state.records:
        raise LogError("the log is empty", where=Path(file).name, expected="at least one record")
    return state
