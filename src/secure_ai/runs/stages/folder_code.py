"""Code that stands beside a model's weights: a finding, since other loaders run it. Here nothing of it runs."""

from __future__ import annotations

from collections.abc import Sequence

from secure_ai.core.findings import Finding, Severity
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.engine.subjects import GivenSubject
from secure_ai.threats.taxonomy import LOADING

MOST_CODE = 20  # entries that a finding lists


def code_findings(subject: Subject) -> tuple[Finding, ...]:
    """What stands beside the weights of a network that the user gave."""
    if not isinstance(subject, GivenSubject):
        return ()
    return judge_code(subject.loaded.code, subject.id, subject.network.title)


def judge_code(code: Sequence[str], model: str, shown: str) -> tuple[Finding, ...]:
    """The finding that a model's folder holds code; nothing of it was run.

    Args:
        code: files, and the entries `auto_map` that make a loader run them.
        model: id in the report.
        shown: the folder's name.
    """
    if not code:
        return ()
    followed = any(entry.startswith("auto_map") for entry in code)
    return (
        Finding(
            id="SAI-LD-001",
            severity=Severity.MEDIUM if followed else Severity.LOW,
            severity_rule="medium where auto_map names code to run, low where code lies beside the weights",
            message=f"{shown} holds code beside its weights: {', '.join(code[:MOST_CODE])}; none of it was run",
            location=model,
            evidence={"code": list(code[:MOST_CODE]), "entries": len(code)},
            taxonomy=LOADING,
            remediation="load the weights into a network of your own; never set trust_remote_code for this folder",
        ),
    )
