"""The code audit: Bandit's findings with their severity, place and weakness id, and what could not be checked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_ai.audit.bandit import BanditReport, run_bandit
from secure_ai.audit.inventory import Inventory, Skipped, take_inventory
from secure_ai.audit.triage import Triage, find_triage
from secure_ai.core.errors import ChildFailedError, printable
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.findings import Finding, Outcome, Severity

UNCHECKED_ID = "SAI-CODE-001"
EMPTY_ID = "SAI-CODE-002"
_SEVERITIES = {"HIGH": Severity.HIGH, "MEDIUM": Severity.MEDIUM, "LOW": Severity.LOW, "UNDEFINED": Severity.LOW}
_REMEDIES = {
    "B101": "raise an error: an assert is gone under `python -O`",
    "B301": "keep data as JSON or safetensors; never unpickle bytes from elsewhere",
    "B403": "keep data as JSON or safetensors; never unpickle bytes from elsewhere",
    "B404": "start programs from fixed lists of arguments, without a shell",
    "B602": "pass a list of arguments and no shell",
    "B603": "pass a list whose program is fixed, and check what comes from outside",
}


@dataclass(frozen=True, slots=True)
class CodeAudit:
    """What a code audit found.

    Attributes:
        files: Python files that were checked.
        lines: lines of code in them, as Bandit counts.
        skipped: what could not be checked; each is also a finding.
        excluded: what was left out because the caller asked for it.
        nosec: findings on lines that a `# nosec` comment would have hidden.
        digest: SHA-256 over names and contents of the files.
    """

    outcome: Outcome
    findings: tuple[Finding, ...]
    bandit_json: bytes
    bandit_txt: bytes
    lines: int
    files: int
    skipped: tuple[Skipped, ...]
    excluded: tuple[str, ...]
    nosec: int
    digest: str


def audit_code(
    path: Path,
    *,
    events: EventSink = ignore_event,
    exclude: Sequence[str] = (),
    triage: Sequence[Triage] = (),
) -> CodeAudit:
    """Run Bandit over the Python code at `path`; none of that code is run or imported.

    Args:
        path: a file or a folder.
        events: told `code_audit` with counts, outcome and digest.
        exclude: names or patterns of files and folders to leave out; what they matched is listed in the result.
        triage: known findings with the reason why they stand; they stay findings.

    Returns:
        The audit. Its outcome is `error` where there is no Python file, and `not_checked` where none could be checked.

    Raises:
        FileMissingError, SizeLimitError: see `take_inventory`.
        ChildFailedError, JsonError: Bandit could not do its work.
    """
    inventory = take_inventory(path, exclude)
    result = _audit(inventory, triage)
    counts = {"files": result.files, "lines": result.lines, "findings": len(result.findings)}
    events("code_audit", {**counts, "outcome": result.outcome.value, "sha256": result.digest})
    return result


def _audit(inventory: Inventory, triage: Sequence[Triage]) -> CodeAudit:
    if not inventory.sources:
        unchecked = [_unchecked(item) for item in inventory.skipped]
        outcome = Outcome.NOT_CHECKED if unchecked else Outcome.ERROR
        findings = tuple(unchecked or [_empty()])
        return CodeAudit(outcome, findings, b"", b"", 0, 0, inventory.skipped, inventory.excluded, 0, inventory.digest)
    report = run_bandit(inventory.sources)
    skipped = (*inventory.skipped, *_unparsed(report.content["errors"]))
    found = [_finding(result, triage) for result in report.content["results"]]
    findings = (*found, *(_unchecked(item) for item in skipped))
    checked = len(inventory.sources) - len(report.content["errors"])
    outcome = Outcome.FINDINGS if findings else Outcome.CLEAN
    return CodeAudit(
        outcome=outcome if checked else Outcome.NOT_CHECKED,
        findings=findings,
        bandit_json=report.json_bytes,
        bandit_txt=report.text_bytes,
        lines=_lines(report),
        files=checked,
        skipped=skipped,
        excluded=inventory.excluded,
        nosec=sum(bool(finding.evidence["nosec"]) for finding in found),
        digest=inventory.digest,
    )


def _lines(report: BanditReport) -> int:
    unparsed = {error.get("filename") for error in report.content["errors"]}
    metrics = report.content["metrics"]
    return sum(int(row["loc"]) for name, row in metrics.items() if name != "_totals" and name not in unparsed)


def _relative(name: object) -> str:
    return posixpath.normpath(printable(name))


def _unparsed(errors: Sequence[Mapping[str, Any]]) -> list[Skipped]:
    return [Skipped(_relative(error.get("filename")), printable(error.get("reason"))) for error in errors]


def _finding(result: Mapping[str, Any], triage: Sequence[Triage]) -> Finding:
    try:
        test_id, grade, line = str(result["test_id"]), str(result["issue_severity"]), int(result["line_number"])
        name, text, code = _relative(result["filename"]), str(result["issue_text"]), str(result["code"])
        confidence, weakness = str(result["issue_confidence"]), result["issue_cwe"].get("id")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ChildFailedError("Bandit reported a finding in another form", where="bandit", got=result) from None
    known = find_triage(triage, test_id, name)
    evidence = {"code": _line_of(code, line), "confidence": confidence.lower(), "nosec": _has_nosec(code, result)}
    return Finding(
        id=f"BANDIT-{test_id}",
        severity=_SEVERITIES.get(grade, Severity.HIGH),
        severity_rule=f"Bandit's severity of {test_id} is {grade.lower()}; its confidence does not change it",
        message=printable(text),
        location=f"{name}:{line}",
        evidence=evidence | ({"triage": known.reason} if known else {}),
        taxonomy=(f"CWE-{weakness}",) if weakness else (),
        remediation=_REMEDIES.get(test_id, printable(result.get("more_info", ""))),
        reproduce=f"python -m bandit --ignore-nosec -t {test_id} {name}",
        planted=known.planted if known else False,
    )


def _numbered(code: str) -> dict[int, str]:
    """Bandit's excerpt, `12 text` a line, as line number to text."""
    rows = (re.match(r"(\d+)[ \t](.*)", row) for row in code.splitlines())
    return {int(row[1]): row[2] for row in rows if row}


def _line_of(code: str, line: int) -> str:
    return printable(_numbered(code).get(line, "").strip())


def _has_nosec(code: str, result: Mapping[str, Any]) -> bool:
    rows = _numbered(code)
    lines = result.get("line_range") or [result["line_number"]]
    return any("nosec" in rows.get(number, "") for number in lines)


def _unchecked(item: Skipped) -> Finding:
    return Finding(
        id=UNCHECKED_ID,
        severity=Severity.MEDIUM,
        severity_rule="a file that cannot be checked may hide anything",
        message=f"not checked: {item.reason}",
        location=item.location,
        taxonomy=("CWE-1059",),
        remediation="make the file readable and valid Python, or leave it out by name",
        reproduce="secure-ai audit code PATH",
    )


def _empty() -> Finding:
    return Finding(
        id=EMPTY_ID,
        severity=Severity.MEDIUM,
        severity_rule="no code was checked, so nothing was found clean",
        message="there is no Python file here",
        location=".",
        remediation="name the folder that holds the code",
        reproduce="secure-ai audit code PATH",
    )
