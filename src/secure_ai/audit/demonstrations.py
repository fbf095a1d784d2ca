"""Bandit stories of published code, told again on small snippets: the finding before the fix, and none after it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from secure_ai.audit.cache_demo import Demonstration
from secure_ai.audit.code import audit_code
from secure_ai.core.errors import ChildFailedError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.findings import Finding, Severity
from secure_ai.files.write import write_bytes


@dataclass(frozen=True, slots=True)
class Story:
    """A weakness that a report found, as code before and after its fix.

    Attributes:
        severity: the one that the report names; findings of it are counted.
        test_id: Bandit's rule.
    """

    report: str
    severity: Severity
    test_id: str
    before: str
    after: str


def demonstrate_bandit(stories: Sequence[Story], *, events: EventSink = ignore_event) -> Demonstration:
    """Audit the snippets of `stories`, before and after the fix.

    Returns:
        Facts `REPORT/audit/SEVERITY` and `REPORT/audit/SEVERITY-after-fix`: how many findings of that severity there
        are; all are marked as planted.

    Raises:
        ChildFailedError: Bandit could not check the snippets, or no longer finds what the stories are about.
    """
    with tempfile.TemporaryDirectory(prefix="secure-ai-stories-") as name:
        folder = Path(name)
        for story in stories:
            write_bytes(folder / _file(story, "before"), story.before.encode())
            write_bytes(folder / _file(story, "after"), story.after.encode())
        audit = audit_code(folder, events=events)
    if audit.skipped:
        raise ChildFailedError("Bandit could not check a snippet", where="bandit", got=audit.skipped[0].reason)
    findings = tuple(replace(finding, planted=True) for finding in audit.findings)
    for story in stories:
        _require(story, findings)
    return Demonstration(_facts(stories, findings), findings)


def _file(story: Story, state: str) -> str:
    return f"{story.report.replace('-', '_')}_{state}.py"


def _facts(stories: Sequence[Story], findings: tuple[Finding, ...]) -> Mapping[str, int]:
    facts = {}
    for story in stories:
        for state, ending in (("before", ""), ("after", "-after-fix")):
            counted = [f for f in _of(findings, _file(story, state)) if f.severity is story.severity]
            facts[f"{story.report}/audit/{story.severity.value}{ending}"] = len(counted)
    return facts


def _of(findings: tuple[Finding, ...], file: str) -> list[Finding]:
    return [finding for finding in findings if finding.location.startswith(f"{file}:")]


def _require(story: Story, findings: tuple[Finding, ...]) -> None:
    """A demonstration that shows nothing is an error, not a clean result."""
    found = [f.id for f in _of(findings, _file(story, "before"))]
    if f"BANDIT-{story.test_id}" not in found:
        raise ChildFailedError(
            "Bandit no longer finds what the report found", where=story.report, expected=story.test_id, got=found
        )
