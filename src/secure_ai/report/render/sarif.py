"""Findings as SARIF 2.1.0 for code hosts: one run, one rule a finding id, one result a finding, never one an image.

The output holds no time and no absolute path, so the same report gives the same file and results keep their identity
from run to run. Hosts read severity from `level` and `security-severity`; what the tool planted itself is suppressed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from secure_ai.core.findings import Finding, Severity
from secure_ai.report.model import Report
from secure_ai.report.render.text import cell

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "RUNFOLDER"
EVIDENCE_FILE = "report.json"  # where a finding that names no file is located
MAX_TAGS = 10  # hosts show ten

LEVELS: dict[Severity, str] = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
SECURITY_SEVERITY: dict[Severity, str] = {  # the scale of CVSS
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "2.5",
    Severity.INFO: "0.0",
}
_LINE = re.compile(r"^(?P<file>.+\.\w+):(?P<line>[1-9]\d{0,8})$")
_FILE = re.compile(r"\.\w{1,12}$")


def render_sarif(report: Report) -> dict[str, Any]:
    """The findings of a report as a SARIF log."""
    findings, tool = report.findings, report.tool
    identifiers = list(dict.fromkeys(finding.id for finding in findings))
    files = {model.id: model.file or EVIDENCE_FILE for model in report.models}
    run = {
        "tool": {
            "driver": {
                "name": tool.name,
                "version": tool.version,
                "semanticVersion": tool.version,
                "rules": [_rule(name, [f for f in findings if f.id == name]) for name in identifiers],
            }
        },
        "automationDetails": {"id": f"{tool.name}/{cell(report.run.recipe)}/"},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The folder that holds report.json."}}},
        "invocations": [{"executionSuccessful": report.run.complete}],
        "columnKind": "unicodeCodePoints",
        "results": _results(findings, identifiers, files),
    }
    return {"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}


def _rule(identifier: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The rule of one finding id, as severe as its worst finding."""
    worst = max(findings, key=lambda finding: finding.severity.rank)
    severity = worst.severity
    tags = ["security", *dict.fromkeys(tag for finding in findings for tag in finding.taxonomy)]
    remediation = cell(worst.remediation)
    rule: dict[str, Any] = {
        "id": identifier,
        "shortDescription": {"text": cell(worst.message) or identifier},
        "fullDescription": {"text": cell(worst.severity_rule) or identifier},
        "defaultConfiguration": {"level": LEVELS[severity]},
        "properties": {"tags": tags[:MAX_TAGS], "security-severity": SECURITY_SEVERITY[severity]},
    }
    return rule | ({"help": {"text": remediation}} if remediation else {})


def _results(findings: Sequence[Finding], identifiers: Sequence[str], files: Mapping[str, str]) -> list[dict[str, Any]]:
    seen: dict[tuple[str, str], int] = {}
    results = []
    for finding in findings:
        key = (finding.id, finding.location)
        seen[key] = seen.get(key, 0) + 1
        results.append(_result(finding, identifiers.index(key[0]), files, seen[key]))
    return results


def _result(finding: Finding, rule: int, files: Mapping[str, str], ordinal: int) -> dict[str, Any]:
    severity = finding.severity
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": LEVELS[severity],
        "message": {"text": cell(finding.message) or finding.id},
        "locations": [_location(finding.location, files)],
        "partialFingerprints": {"secureAiFinding/v1": _fingerprint(finding, ordinal)},
        "properties": {
            "security-severity": SECURITY_SEVERITY[severity],
            "severity": severity.value,
            "planted": finding.planted,
            "reproduce": cell(finding.reproduce),
        },
    }
    if finding.planted:
        reason = "planted or reproduced by the tool itself; it does not count"
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": reason}]
    return result


def _fingerprint(finding: Finding, ordinal: int) -> str:
    """Identity of a finding: its id, where it is and which one there; no number that changes from run to run."""
    location = _LINE.sub(lambda match: match["file"], finding.location)
    return hashlib.sha256(f"{finding.id}\0{location}\0{ordinal}".encode()).hexdigest()[:32]


def _location(text: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The file (with its line), else the model's file, else report.json with the name as logical location."""
    match = _LINE.match(text)
    path, line = (match["file"], int(match["line"])) if match else (text, 0)
    named = files.get(path) or (path if _FILE.search(path) else EVIDENCE_FILE)
    physical: dict[str, Any] = {"artifactLocation": {"uri": relative_uri(named), "uriBaseId": ROOT}}
    if line:
        physical["region"] = {"startLine": line}
    location: dict[str, Any] = {"physicalLocation": physical}
    if named != path:
        location["logicalLocations"] = [{"fullyQualifiedName": cell(text) or "run", "kind": "module"}]
    return location


def relative_uri(path: str) -> str:
    """`path` as a relative URI reference: no scheme, no root, no way up, everything unusual percent-encoded."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(quote(part, safe="-._~") for part in parts) or EVIDENCE_FILE
