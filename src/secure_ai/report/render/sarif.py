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
TITLES = {
    "SAI-EV-001": "Robust accuracy is below the bar at this budget",
    "SAI-EV-002": "A robust accuracy is overstated: stronger attacks leave less",
    "SAI-BD-001": "The model has a working backdoor",
    "SAI-BD-002": "A scan finds what looks like a backdoor",
    "SAI-CACHE-001": "A cache file runs code when it is loaded",
    "SAI-CODE-001": "Code that could not be audited",
    "SAI-CODE-002": "No Python code to audit",
    "SAI-LD-001": "The model's folder holds code",
    "SAI-PF-001": "The model may be fed otherwise than it was trained",
}
CODE = "BANDIT-"
BANDIT_HELP = "https://bandit.readthedocs.io/en/latest/"
ATLAS_HELP = "https://atlas.mitre.org/techniques/"
CWE_HELP = "https://cwe.mitre.org/data/definitions/"
OTHER_HELP = "https://atlas.mitre.org/"
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
    titles = {model.id: model.title for model in report.models if model.title}
    run = {
        "tool": {
            "driver": {
                "name": tool.name,
                "version": cell(tool.version),
                "semanticVersion": cell(tool.version),
                "rules": [_rule(name, [f for f in findings if f.id == name]) for name in identifiers],
            }
        },
        "automationDetails": {"id": f"{tool.name}/{cell(report.run.recipe)}/"},
        "invocations": [{"executionSuccessful": report.run.complete}],
        "columnKind": "unicodeCodePoints",
        "results": _results(findings, identifiers, files, titles),
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
        "shortDescription": {"text": _rule_title(identifier)},
        "fullDescription": {"text": cell(worst.severity_rule) or identifier},
        "helpUri": _help_uri(identifier, tags),
        "defaultConfiguration": {"level": LEVELS[severity]},
        "properties": {"tags": tags[:MAX_TAGS], "security-severity": SECURITY_SEVERITY[severity]},
    }
    return rule | ({"help": {"text": remediation}} if remediation else {})


def _rule_title(identifier: str) -> str:
    """A title that no number of a run changes."""
    return TITLES.get(identifier) or f"Rule {cell(identifier.removeprefix(CODE))}" + (
        " of Bandit" if identifier.startswith(CODE) else ""
    )


def _help_uri(identifier: str, tags: Sequence[str]) -> str:
    """A page about the kind of finding."""
    if identifier.startswith(CODE):
        return BANDIT_HELP
    technique = next((tag for tag in tags if re.fullmatch(r"AML\.T[0-9.]+", tag)), None)
    weakness = next((tag for tag in tags if re.fullmatch(r"CWE-[0-9]+", tag)), None)
    if technique:
        return ATLAS_HELP + technique
    return f"{CWE_HELP}{weakness.removeprefix('CWE-')}.html" if weakness else OTHER_HELP


def _results(
    findings: Sequence[Finding], identifiers: Sequence[str], files: Mapping[str, str], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    seen: dict[tuple[str, str], int] = {}
    results = []
    for finding in findings:
        key = (finding.id, finding.location)
        seen[key] = seen.get(key, 0) + 1
        place = _location(finding.location, files, titles)
        results.append(_result(finding, identifiers.index(key[0]), place, seen[key]))
    return results


def _result(finding: Finding, rule: int, place: Mapping[str, Any], ordinal: int) -> dict[str, Any]:
    severity = finding.severity
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": LEVELS[severity],
        "message": {"text": cell(finding.message) or finding.id},
        "locations": [place],
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


def _location(text: str, files: Mapping[str, str], titles: Mapping[str, str]) -> dict[str, Any]:
    """The file (with its line), else the model's file, else report.json with the name as logical location."""
    match = _LINE.match(text)
    path, line = (match["file"], int(match["line"])) if match else (text, 1)
    named = files.get(path) or (path if _FILE.search(path) else EVIDENCE_FILE)
    physical = {"artifactLocation": {"uri": relative_uri(named)}, "region": {"startLine": line}}
    location: dict[str, Any] = {"physicalLocation": physical}
    if named != path:
        identity = cell(text) or "run"
        name = cell(titles.get(text, identity))
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": identity, "kind": "module"}]
    return location


def relative_uri(path: str) -> str:
    """`path` as a relative URI reference: no scheme, no root, no way up, everything unusual percent-encoded."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(quote(part, safe="-._~") for part in parts) or EVIDENCE_FILE
