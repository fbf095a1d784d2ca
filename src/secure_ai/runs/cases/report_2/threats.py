"""Report 2's STRIDE rows (section 9), with the rules that judge them."""

from __future__ import annotations

from secure_ai.threats.register import Row
from secure_ai.threats.rules import refuses, unmitigated_backdoor
from secure_ai.threats.taxonomy import AUDIT_TRAIL, BACKDOOR, EXHAUSTION, POISONING

ROWS: tuple[Row, ...] = (
    Row("report-2/S/explicit-paths", "report-2", "section 9", "S", "Impersonation of clients or data sources",
        "Explicit data set paths and formats", "implemented",
        ("AML.T0010.002", "ML06:2023", "AML.M0025", "CWE-345", "CWE-494")),
    Row("report-2/T/poisoning-module", "report-2", "section 9", "T", "Training data modified by an attacker",
        "The poisoning module demonstrates the risk", "implemented", POISONING,
        unmitigated_backdoor("report-2/poisoned/backdoor", "report-2/baseline/backdoor")),
    Row("report-2/T/integrity-checks", "report-2", "section 9", "T", "Training data modified by an attacker",
        "Integrity checks prevent accidental mismatches", "implemented",
        ("AML.T0010.002", "AML.T0059", "ML02:2023", "AML.M0014", "CWE-20", "CWE-354"),
        refuses("check/mismatched-data/refused", "check/matching-data/accepted",
            "a few data files whose parts do not fit")),
    Row("report-2/R/modes", "report-2", "section 9", "R", "An attacker denies malicious actions",
        "Structured training modes serve as an audit trail", "implemented", AUDIT_TRAIL),
    Row("report-2/I/local-processing", "report-2", "section 9", "I", "Exposed model or data enable stronger attacks",
        "All processing is local; no gradients or weights are sent out", "implemented",
        ("AML.T0035", "ML05:2023", "AML.M0017", "CWE-200")),
    Row("report-2/D/time-measured", "report-2", "section 9", "D", "Expensive adversarial inputs slow inference",
        "Inference time is measured", "implemented", EXHAUSTION),
    Row("report-2/D/adversarial-load", "report-2", "section 9", "D", "Expensive adversarial inputs slow inference",
        "Performance is evaluated under adversarial load", "implemented", (*EXHAUSTION, "NISTAML.014")),
    Row("report-2/E/dataset-wrappers", "report-2", "section 9", "E", "Unauthorised retraining installs backdoors",
        "Controlled data set wrappers isolate poisoning and enforce explicit intent", "implemented",
        (*BACKDOOR, "AML.T0020")),
)  # fmt: skip
