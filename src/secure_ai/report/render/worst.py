"""The three worst things that a run found, in plain words: for the first screen of every format."""

from __future__ import annotations

from dataclasses import dataclass

from secure_ai.core.findings import Finding, Severity
from secure_ai.report.model import Report
from secure_ai.report.sections import sorted_findings

WORST = 3


@dataclass(frozen=True, slots=True)
class Worst:
    """One of them.

    Attributes:
        mark: a severity, or `wrong` for a published claim.
        why: what to do, or why the claim is wrong.
        target: where on the page it stands: findings or reproduction.
    """

    mark: str
    what: str
    why: str
    target: str


def worst_things(report: Report) -> list[Worst]:
    """Grave findings, contradicted main claims, lesser findings.

    What the tool planted or reproduced itself comes last: it counts for nothing, yet it may be all that a run shows.
    """
    claims = [
        Worst("wrong", row.published.text, row.reason, "reproduction")
        for row in report.reproduction
        if row.holds == "no" and row.headline
    ]
    findings = sorted_findings(report)
    own = [f for f in findings if not f.planted]
    grave = [_plainly(f, "") for f in own if f.severity.rank >= Severity.HIGH.rank]
    lesser = [_plainly(f, "") for f in own if f.severity in (Severity.MEDIUM, Severity.LOW)]
    planted = [_plainly(f, "Reproduced by the tool itself: ") for f in findings if f.planted]
    return (grave + claims + lesser + planted)[:WORST]


def _plainly(finding: Finding, origin: str) -> Worst:
    return Worst(finding.severity.value, f"{origin}{finding.message}", finding.remediation, "findings")
