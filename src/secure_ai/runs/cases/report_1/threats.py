"""Report 1's STRIDE rows: table 2 and the advice of sections 4.7 and 5.2, with the rules that judge them."""

from __future__ import annotations

from secure_ai.threats.model import Claimed
from secure_ai.threats.register import Row
from secure_ai.threats.rules import ThreatRule, refuses, reveals_backdoor, robust_floor
from secure_ai.threats.rules_detection import finds_poison, scan_tells_apart
from secure_ai.threats.taxonomy import (
    ARTEFACT,
    AUDIT_TRAIL,
    BACKDOOR,
    EVASION,
    EXHAUSTION,
    LOADING,
    POISONING,
    PRIVACY,
    Letter,
)

TABLE_2: dict[Letter, str] = {
    "S": "Adversarial samples that bypass authentication or evade detection; gradients drive the perturbation",
    "T": "Training data modified by backdoor injection, or model files altered on disk",
    "R": "No audit trail of training provenance, attack configuration or inference requests",
    "I": "Model inversion and membership inference",
    "D": "Expensive adversarial inputs, memory exhaustion by large batches, repeated FGSM generation",
    "E": "Backdoor activation that bypasses logic checks; manipulation of the target class",
}
LOADING_THREAT = "A model or cache file runs code when it is loaded"
BACKDOOR_THREAT = "A backdoored model that behaves normally on clean data"

REVEALS_BACKDOOR = reveals_backdoor("report-1/badnets", "sevens-clean", "sevens-triggered", "backdoor")


def _table(letter: Letter, name: str, mitigation: str, claimed: Claimed, taxonomy: tuple[str, ...],
        rule: ThreatRule | None = None) -> Row:  # fmt: skip
    threat = TABLE_2[letter]
    return Row(f"report-1/{letter}/{name}", "report-1", "table 2", letter, threat, mitigation, claimed, taxonomy, rule)


def _advice(letter: Letter, name: str, where: str, threat: str, mitigation: str, taxonomy: tuple[str, ...],
            rule: ThreatRule | None = None) -> Row:  # fmt: skip
    identifier = f"report-1/{letter}/{name}"
    return Row(identifier, "report-1", where, letter, threat, mitigation, "proposed", taxonomy, rule)


ROWS: tuple[Row, ...] = (
    _table("S", "adversarial-training-published", "Adversarial training with FGSM examples (as published: made once, "
        "for the baseline)", "implemented", (*EVASION, "AML.M0003"),
        robust_floor("report-1/defended-p", "report-1/baseline")),
    _table("S", "adversarial-training-listed", "Adversarial training with FGSM examples (as listed: fresh examples, "
        "made on the network in training)", "implemented", (*EVASION, "AML.M0003"),
        robust_floor("report-1/defended-l", "report-1/baseline")),
    _table("S", "input-sanitisation", "Input sanitisation", "proposed", (*EVASION, "AML.M0010")),
    _table("S", "request-anomaly-detection", "Anomaly detection on inference requests", "proposed",
        (*EVASION, "AML.M0015")),
    _table("S", "confidence-threshold", "Confidence thresholding", "proposed", (*EVASION, "AML.M0015")),
    _table("T", "poison-metrics", "Feature-specific poison detection metrics", "implemented", (*POISONING, "AML.M0008"),
        REVEALS_BACKDOOR),
    _table("T", "target-class-validation", "Validation on target classes", "implemented", (*POISONING, "AML.M0008"),
        REVEALS_BACKDOOR),
    _table("T", "signing", "Cryptographic signing of model files", "proposed", (*ARTEFACT, "AML.M0013", "CWE-347")),
    _table("T", "hash-verification", "Hash verification", "proposed", (*ARTEFACT, "AML.M0014", "CWE-354"),
        refuses("check/altered-model/refused", "check/unaltered-model/accepted",
            "one bit flipped in a file of its own store, not in a model of yours")),
    _table("T", "immutable-storage", "Immutable artifact storage", "proposed", (*ARTEFACT, "AML.M0005", "CWE-732")),
    _table("R", "hyperparameter-log", "JSON logging of hyperparameters (eps, patch, training configuration)",
        "implemented", AUDIT_TRAIL),
    _table("R", "request-log", "Comprehensive request logging with timestamps", "proposed", AUDIT_TRAIL),
    _table("R", "model-versioning", "Model versioning", "proposed", (*AUDIT_TRAIL, "AML.M0014")),
    _table("I", "dp-sgd", "Differential privacy with DP-SGD during training", "proposed", PRIVACY),
    _table("I", "gradient-clipping", "Gradient clipping", "proposed", PRIVACY),
    _table("I", "rate-limit", "API rate limiting", "proposed", (*PRIVACY, "AML.M0004", "CWE-799")),
    _table("I", "confidence-cap", "Confidence score capping", "proposed", (*PRIVACY, "AML.M0002", "CWE-203")),
    _table("D", "batch-limit", "Batch size limits (128 samples)", "implemented", EXHAUSTION),
    _table("D", "perturbation-budget", "Controlled perturbation budgets", "implemented", EXHAUSTION),
    _table("D", "compute-timeout", "Compute timeouts on the inference API", "proposed",
        (*EXHAUSTION, "NISTAML.014", "CWE-834")),
    _table("D", "throttling", "Request throttling", "proposed", (*EXHAUSTION, "AML.T0046", "CWE-799")),
    _table("D", "quotas", "Resource quotas per API key", "proposed", (*EXHAUSTION, "AML.T0034.000", "AML.M0019")),
    _table("E", "target-class-metrics", "Validation metrics on target classes (digit 7) to detect trigger efficacy",
        "implemented", BACKDOOR, REVEALS_BACKDOOR),
    _table("E", "prediction-monitoring", "Monitoring for anomalous prediction distributions", "implemented",
        (*BACKDOOR, "AML.M0024")),
    _advice("T", "neural-cleanse", "section 5.2", BACKDOOR_THREAT, "Neural cleanse", BACKDOOR,
            scan_tells_apart("report-1/badnets", "report-1/baseline")),
    _advice("T", "activation-clustering", "section 5.2", BACKDOOR_THREAT, "Activation clustering",
            (*POISONING, "AML.M0007"), finds_poison("report-1/badnets/filter-activation-clustering")),
    _advice("T", "spectral-signatures", "section 5.2", BACKDOOR_THREAT, "Spectral signatures",
            (*POISONING, "AML.M0007"), finds_poison("report-1/badnets/filter-spectral-signatures")),
    _advice("E", "safe-formats", "section 4.7", LOADING_THREAT, "Secure formats such as safetensors or ONNX", LOADING,
            refuses("check/pickled-model/refused", "check/safetensors-model/accepted",
                "4 payloads in every pickle protocol under 3 names, far from independent")),
    _advice("E", "weights-only", "section 4.7", LOADING_THREAT, "`weights_only=True` when loading PyTorch models",
            LOADING),
    _advice("T", "integrity-signatures", "section 4.7", TABLE_2["T"], "Cryptographic signatures of model integrity",
            (*ARTEFACT, "AML.M0013", "CWE-347")),
    _advice("S", "verified-sources", "section 4.7", "A look-alike source serves another model",
            "Model loading from verified sources with certificate validation",
            ("AML.T0074", "AML.T0010.003", "ML06:2023", "AML.M0014", "CWE-494")),
    _advice("E", "sandboxed-loading", "section 4.7", LOADING_THREAT, "Sandboxed or containerised deserialisation",
            (*LOADING, "CWE-250")),
    _advice("R", "load-log", "section 4.7", TABLE_2["R"], "Logging of all model load operations", AUDIT_TRAIL),
)  # fmt: skip
