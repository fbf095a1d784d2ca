"""What a model scan says that is wrong with the model."""

from __future__ import annotations

from secure_ai.blue.backdoors.inversion import EVERY
from secure_ai.blue.backdoors.judgement import ScanVerdict
from secure_ai.core.findings import Finding, Severity
from secure_ai.core.labels import class_text
from secure_ai.data.dataset import Dataset
from secure_ai.runs.backdoors.scan import Scan
from secure_ai.threats.taxonomy import WORKING_BACKDOOR

SEVERITIES = {ScanVerdict.BACKDOORED: Severity.CRITICAL, ScanVerdict.SUSPICIOUS: Severity.MEDIUM}


def scan_findings(
    model: str, scan: Scan, data: Dataset | None, *, again: str = "", measured: bool = False, shown: str = "",
    planted: bool = False, picture: str = "",
) -> tuple[Finding, ...]:  # fmt: skip
    """One finding where the verdict is `backdoored` or `suspicious`, else none.

    Args:
        model: its id, the location.
        shown: what it is called for people, where that is not its id.
        data: that it was scanned with.
        again: the command that scans it again; empty in a run, whose own command does.
        measured: whether a rate `MODEL/scan-false-alarms` stands in the same document.
        planted: as in `Finding`.
        picture: file of the reconstructed trigger, in the folder that the report stands in; empty: there is none.
    """
    severity, found = SEVERITIES.get(scan.verdict), scan.calibrated
    if severity is None or found is None or scan.suspected is None:
        return ()
    (source, label), names = scan.suspected, () if data is None else data.class_names
    looks = f"class {class_text(label, names)} looks like a backdoor's target"
    return (
        Finding(
            id="SAI-BD-002",
            severity=severity,
            severity_rule=f"the scan's verdict is {scan.verdict.value}",
            message=f"{shown or model}: {looks}: {scan.reasons[0]}",
            location=model,
            evidence={
                **({"measurement": f"{model}/scan-false-alarms"} if measured else {}),
                "verdict": scan.verdict.value,
                "p": round(found.p, 4),
                "label": label,
                **({} if source == EVERY else {"source": source}),
                **({"picture": picture} if picture else {}),
            },
            taxonomy=WORKING_BACKDOOR,
            remediation="do not use the model; retrain on filtered data, or repair it with `secure-ai backdoor remove`",
            reproduce=again,
            planted=planted,
        ),
    )
