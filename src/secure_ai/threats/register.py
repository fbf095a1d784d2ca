"""Both reports' STRIDE rows as data, and the function that fills in what was measured about each.

`claimed` is what the report says of the mitigation (`implemented` or `proposed`); the status is ours and comes from
measurements only. A row without a rule, or whose measurements are missing, is `not_tested`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from secure_ai.threats.rules import Outcome, Rule, Status, refuses, reveals_backdoor, robust_floor, unmitigated_backdoor
from secure_ai.threats.taxonomy import Letter

Claimed = Literal["implemented", "proposed"]


@dataclass(frozen=True, slots=True)
class Row:
    """One mitigation of one threat, as a report states it.

    Attributes:
        id: unique and stable.
        report: `report-1` or `report-2`.
        where: the place in that report.
        rule: how measurements decide the status; None where nothing measures it yet.
    """

    id: str
    report: str
    where: str
    letter: Letter
    threat: str
    mitigation: str
    claimed: Claimed
    taxonomy: tuple[str, ...]
    rule: Rule | None = None


EVASION = ("AML.T0015", "AML.T0043.000", "ML01:2023", "NISTAML.022", "CWE-1039")
POISONING = ("AML.T0020", "AML.T0043.004", "ML02:2023", "NISTAML.023", "NISTAML.021", "CWE-345")
ARTEFACT = ("AML.T0018", "AML.T0010.003", "ML06:2023", "ML10:2023", "CWE-345")
AUDIT_TRAIL = ("AML.T0024", "ML09:2023", "AML.M0024", "CWE-778", "CWE-223")
PRIVACY = ("AML.T0024.000", "AML.T0024.001", "ML03:2023", "ML04:2023", "NISTAML.032", "NISTAML.033", "CWE-200")
EXHAUSTION = ("AML.T0029", "AML.T0034.001", "AML.M0004", "CWE-770")
BACKDOOR = ("AML.T0043.004", "AML.T0018.000", "ML10:2023", "NISTAML.023", "AML.M0008")
LOADING = ("AML.T0011.000", "AML.T0018.002", "ML06:2023", "AML.M0011", "CWE-502")

R1_THREATS: dict[Letter, str] = {
    "S": "Adversarial samples that bypass authentication or evade detection; gradients drive the perturbation",
    "T": "Training data modified by backdoor injection, or model files altered on disk",
    "R": "No audit trail of training provenance, attack configuration or inference requests",
    "I": "Model inversion and membership inference",
    "D": "Expensive adversarial inputs, memory exhaustion by large batches, repeated FGSM generation",
    "E": "Backdoor activation that bypasses logic checks; manipulation of the target class",
}
LOADING_THREAT = "A model or cache file runs code when it is loaded"
BACKDOOR_THREAT = "A backdoored model that behaves normally on clean data"


def _r1(letter: Letter, name: str, mitigation: str, claimed: Claimed, taxonomy: tuple[str, ...],
        rule: Rule | None = None) -> Row:  # fmt: skip
    threat = R1_THREATS[letter]
    return Row(f"report-1/{letter}/{name}", "report-1", "table 2", letter, threat, mitigation, claimed, taxonomy, rule)


def _advice(letter: Letter, name: str, where: str, threat: str, mitigation: str, taxonomy: tuple[str, ...],
            rule: Rule | None = None) -> Row:  # fmt: skip
    identifier = f"report-1/{letter}/{name}"
    return Row(identifier, "report-1", where, letter, threat, mitigation, "proposed", taxonomy, rule)


REPORT_1: tuple[Row, ...] = (
    _r1("S", "adversarial-training-published", "Adversarial training with FGSM examples (as published: made once, for "
        "the baseline)", "implemented", (*EVASION, "AML.M0003"),
        robust_floor("report-1/defended-p", "report-1/baseline")),
    _r1("S", "adversarial-training-listed", "Adversarial training with FGSM examples (as listed: made anew on the "
        "network in training)", "implemented", (*EVASION, "AML.M0003"),
        robust_floor("report-1/defended-l", "report-1/baseline")),
    _r1("S", "input-sanitisation", "Input sanitisation", "proposed", (*EVASION, "AML.M0010")),
    _r1("S", "request-anomaly-detection", "Anomaly detection on inference requests", "proposed",
        (*EVASION, "AML.M0015")),
    _r1("S", "confidence-threshold", "Confidence thresholding", "proposed", (*EVASION, "AML.M0015")),
    _r1("T", "poison-metrics", "Feature-specific poison detection metrics", "implemented", (*POISONING, "AML.M0008"),
        reveals_backdoor("report-1/badnets", "sevens-clean", "sevens-triggered", "backdoor")),
    _r1("T", "target-class-validation", "Validation on target classes", "implemented", (*POISONING, "AML.M0008"),
        reveals_backdoor("report-1/badnets", "sevens-clean", "sevens-triggered", "backdoor")),
    _r1("T", "signing", "Cryptographic signing of model files", "proposed", (*ARTEFACT, "AML.M0013", "CWE-347")),
    _r1("T", "hash-verification", "Hash verification", "proposed", (*ARTEFACT, "AML.M0014", "CWE-354"),
        refuses("check/altered-model/refused", "check/unaltered-model/accepted")),
    _r1("T", "immutable-storage", "Immutable artifact storage", "proposed", (*ARTEFACT, "AML.M0005", "CWE-732")),
    _r1("R", "hyperparameter-log", "JSON logging of hyperparameters (eps, patch, training configuration)",
        "implemented", AUDIT_TRAIL),
    _r1("R", "request-log", "Comprehensive request logging with timestamps", "proposed", AUDIT_TRAIL),
    _r1("R", "model-versioning", "Model versioning", "proposed", (*AUDIT_TRAIL, "AML.M0014")),
    _r1("I", "dp-sgd", "Differential privacy with DP-SGD during training", "proposed", PRIVACY),
    _r1("I", "gradient-clipping", "Gradient clipping", "proposed", PRIVACY),
    _r1("I", "rate-limit", "API rate limiting", "proposed", (*PRIVACY, "AML.M0004", "CWE-799")),
    _r1("I", "confidence-cap", "Confidence score capping", "proposed", (*PRIVACY, "AML.M0002", "CWE-203")),
    _r1("D", "batch-limit", "Batch size limits (128 samples)", "implemented", EXHAUSTION),
    _r1("D", "perturbation-budget", "Controlled perturbation budgets", "implemented", EXHAUSTION),
    _r1("D", "compute-timeout", "Compute timeouts on the inference API", "proposed",
        (*EXHAUSTION, "NISTAML.014", "CWE-834")),
    _r1("D", "throttling", "Request throttling", "proposed", (*EXHAUSTION, "AML.T0046", "CWE-799")),
    _r1("D", "quotas", "Resource quotas per API key", "proposed", (*EXHAUSTION, "AML.T0034.000", "AML.M0019")),
    _r1("E", "target-class-metrics", "Validation metrics on target classes (digit 7) to detect trigger efficacy",
        "implemented", BACKDOOR, reveals_backdoor("report-1/badnets", "sevens-clean", "sevens-triggered", "backdoor")),
    _r1("E", "prediction-monitoring", "Monitoring for anomalous prediction distributions", "implemented",
        (*BACKDOOR, "AML.M0024")),
    _advice("T", "neural-cleanse", "section 5.2", BACKDOOR_THREAT, "Neural cleanse", BACKDOOR),
    _advice("T", "activation-clustering", "section 5.2", BACKDOOR_THREAT, "Activation clustering",
            (*POISONING, "AML.M0007")),
    _advice("T", "spectral-signatures", "section 5.2", BACKDOOR_THREAT, "Spectral signatures",
            (*POISONING, "AML.M0007")),
    _advice("E", "safe-formats", "section 4.7", LOADING_THREAT, "Secure formats such as safetensors or ONNX", LOADING,
            refuses("check/pickled-model/refused", "check/safetensors-model/accepted")),
    _advice("E", "weights-only", "section 4.7", LOADING_THREAT, "`weights_only=True` when loading PyTorch models",
            LOADING),
    _advice("T", "integrity-signatures", "section 4.7", R1_THREATS["T"], "Cryptographic signatures of model integrity",
            (*ARTEFACT, "AML.M0013", "CWE-347")),
    _advice("S", "verified-sources", "section 4.7", "A look-alike source serves another model",
            "Model loading from verified sources with certificate validation",
            ("AML.T0074", "AML.T0010.003", "ML06:2023", "AML.M0014", "CWE-494")),
    _advice("E", "sandboxed-loading", "section 4.7", LOADING_THREAT, "Sandboxed or containerised deserialisation",
            (*LOADING, "CWE-250")),
    _advice("R", "load-log", "section 4.7", R1_THREATS["R"], "Logging of all model load operations", AUDIT_TRAIL),
)  # fmt: skip

REPORT_2: tuple[Row, ...] = (
    Row("report-2/S/explicit-paths", "report-2", "section 9", "S", "Impersonation of clients or data sources",
        "Explicit data set paths and formats", "implemented",
        ("AML.T0010.002", "ML06:2023", "AML.M0025", "CWE-345", "CWE-494")),
    Row("report-2/T/poisoning-module", "report-2", "section 9", "T", "Training data modified by an attacker",
        "The poisoning module demonstrates the risk", "implemented", POISONING,
        unmitigated_backdoor("report-2/poisoned/backdoor", "report-2/baseline/backdoor")),
    Row("report-2/T/integrity-checks", "report-2", "section 9", "T", "Training data modified by an attacker",
        "Integrity checks prevent accidental mismatches", "implemented",
        ("AML.T0010.002", "AML.T0059", "ML02:2023", "AML.M0014", "CWE-20", "CWE-354"),
        refuses("check/mismatched-data/refused", "check/matching-data/accepted")),
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

REGISTER: tuple[Row, ...] = (*REPORT_1, *REPORT_2)
UNMEASURED = Outcome(Status.NOT_TESTED, "No measurement of this tool covers it yet.")


def threat_rows(
    measurements: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The `threats` list of report.json: every row of both registers with the status that the measurements give it.

    Args:
        measurements: entries of `measurements`.
        findings: entries of `findings`; those that share an attack technique with a row are listed as its evidence.

    Returns:
        One dict a row: `id`, `letter`, `threat`, `mitigation`, `report`, `where`, `claimed`, `status` (`mitigated |
        ineffective | inconclusive | not_tested`), `reason`, `evidence` (measurement ids), `findings` (finding ids) and
        `taxonomy`.
    """
    known = {str(entry["id"]): entry for entry in measurements}
    return [_filled(row, known, findings) for row in REGISTER]


def _filled(row: Row, known: Mapping[str, Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    outcome = row.rule.apply(known) if row.rule else UNMEASURED
    evidence = [name for name in row.rule.evidence if name in known] if row.rule else []
    return {
        "id": row.id,
        "letter": row.letter,
        "threat": row.threat,
        "mitigation": row.mitigation,
        "report": row.report,
        "where": row.where,
        "claimed": row.claimed,
        "status": outcome.status.value,
        "reason": outcome.reason,
        "evidence": evidence,
        "findings": _findings_about(evidence, findings),
        "taxonomy": list(row.taxonomy),
    }


def _findings_about(evidence: Sequence[str], findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ids of findings whose own evidence names one of these measurements."""
    names = set(evidence)
    about = [
        str(finding["id"])
        for finding in findings
        if names & {value for value in finding.get("evidence", {}).values() if isinstance(value, str)}
    ]
    return list(dict.fromkeys(about))
