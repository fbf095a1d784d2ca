"""Findings, their severity, and the four outcomes of a check that are never merged."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from secure_ai.core.errors import EXIT_FINDINGS, EXIT_INCONCLUSIVE, EXIT_OK
from secure_ai.core.trust import Trust, Verdict, fed_wrongly

FailOn = Literal["critical", "high", "medium", "low", "never"]


class Severity(enum.StrEnum):
    """Ordered from worst to least; `info` means nothing is wrong, not that all is safe."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for info up to 4 for critical."""
        return len(Severity) - 1 - list(Severity).index(self)


class Outcome(enum.StrEnum):
    """What a check can answer; `not_checked` and `error` never count as clean."""

    CLEAN = "clean"
    FINDINGS = "findings"
    ERROR = "error"
    NOT_CHECKED = "not_checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, with what shows it and what to do.

    Attributes:
        id: stable check id, e.g. `SAI-EV-001`.
        severity_rule: the sentence that decided the severity.
        location: file, model id or stage; relative, never an absolute path.
        evidence: numbers with n and interval, or matched text.
        taxonomy: ids such as `AML.T0015` or `CWE-502`.
        planted: the tool made or reproduced this itself; it never counts towards `--fail-on`.
    """

    id: str
    severity: Severity
    severity_rule: str
    message: str
    location: str
    evidence: dict[str, Any] = field(default_factory=dict)
    taxonomy: tuple[str, ...] = ()
    remediation: str = ""
    reproduce: str = ""
    planted: bool = False

    def as_json(self) -> dict[str, Any]:
        """The entry of `findings` in report.json."""
        return {
            "id": self.id,
            "severity": self.severity.value,
            "severity_rule": self.severity_rule,
            "message": self.message,
            "location": self.location,
            "evidence": self.evidence,
            "taxonomy": list(self.taxonomy),
            "remediation": self.remediation,
            "reproduce": self.reproduce,
            "planted": self.planted,
        }


def exceeds(findings: Iterable[Finding], fail_on: FailOn) -> bool:
    """Whether one of `findings` that the tool did not plant itself is at or above `fail_on`."""
    if fail_on == "never":
        return False
    limit = Severity(fail_on).rank
    return any(not f.planted and f.severity.rank >= limit for f in findings)


def gate(findings: Iterable[Finding], fail_on: FailOn, trusts: Iterable[Trust]) -> int:
    """The exit code of `--fail-on`: findings at or above it, else a number not to be trusted, which passes no gate.

    A network that is evidently fed wrongly is inconclusive whatever `fail_on` says: its findings are of another one.

    Args:
        trusts: on the robust accuracies that the findings were judged by.
    """
    behind = list(trusts)
    if any(fed_wrongly(trust.checks) for trust in behind):
        return EXIT_INCONCLUSIVE
    if fail_on == "never":
        return EXIT_OK
    if exceeds(findings, fail_on):
        return EXIT_FINDINGS
    return EXIT_OK if all(trust.verdict is Verdict.RELIABLE for trust in behind) else EXIT_INCONCLUSIVE
