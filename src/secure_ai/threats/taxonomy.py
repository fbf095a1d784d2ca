"""The taxonomy ids that this project uses, with their names; a test holds every id in use against this list.

ATLAS names are those of release 5.6 (they changed: "ML" became "AI"); OWASP is the draft v0.3 of 2023; NIST is AI 100-2
E2025. A loader that runs code is a platform attack, outside NIST's list: it has a CWE id and no NISTAML id.
"""

from __future__ import annotations

from typing import Literal

ATLAS_VERSION = "5.6.1"

Letter = Literal["S", "T", "R", "I", "D", "E"]

STRIDE: dict[Letter, str] = {
    "S": "Spoofing",
    "T": "Tampering",
    "R": "Repudiation",
    "I": "Information disclosure",
    "D": "Denial of service",
    "E": "Elevation of privilege",
}

ATLAS: dict[str, str] = {
    "AML.T0005": "Create Proxy AI Model",
    "AML.T0010": "AI Supply Chain Compromise",
    "AML.T0010.001": "AI Supply Chain Compromise: AI Software",
    "AML.T0010.002": "AI Supply Chain Compromise: Data",
    "AML.T0010.003": "AI Supply Chain Compromise: Model",
    "AML.T0011.000": "User Execution: Unsafe AI Artifacts",
    "AML.T0012": "Valid Accounts",
    "AML.T0015": "Evade AI Model",
    "AML.T0018": "Manipulate AI Model",
    "AML.T0018.000": "Manipulate AI Model: Poison AI Model",
    "AML.T0018.002": "Manipulate AI Model: Embed Malware",
    "AML.T0020": "Poison Training Data",
    "AML.T0024": "Exfiltration via AI Inference API",
    "AML.T0024.000": "Exfiltration via AI Inference API: Infer Training Data Membership",
    "AML.T0024.001": "Exfiltration via AI Inference API: Invert AI Model",
    "AML.T0029": "Denial of AI Service",
    "AML.T0031": "Erode AI Model Integrity",
    "AML.T0034.000": "Cost Harvesting: Excessive Queries",
    "AML.T0034.001": "Cost Harvesting: Resource-Intensive Queries",
    "AML.T0035": "AI Artifact Collection",
    "AML.T0043.000": "Craft Adversarial Data: White-Box Optimization",
    "AML.T0043.002": "Craft Adversarial Data: Black-Box Transfer",
    "AML.T0043.004": "Craft Adversarial Data: Insert Backdoor Trigger",
    "AML.T0046": "Spamming AI System with Chaff Data",
    "AML.T0059": "Erode Dataset Integrity",
    "AML.T0074": "Masquerading",
}

ATLAS_MITIGATIONS: dict[str, str] = {
    "AML.M0002": "Passive AI Output Obfuscation",
    "AML.M0003": "Model Hardening",
    "AML.M0004": "Restrict Number of AI Model Queries",
    "AML.M0005": "Control Access to AI Models and Data at Rest",
    "AML.M0007": "Sanitize Training Data",
    "AML.M0008": "Validate AI Model",
    "AML.M0010": "Input Restoration",
    "AML.M0011": "Restrict Library Loading",
    "AML.M0013": "Code Signing",
    "AML.M0014": "Verify AI Artifacts",
    "AML.M0015": "Adversarial Input Detection",
    "AML.M0017": "AI Model Distribution Methods",
    "AML.M0019": "Control Access to AI Models and Data in Production",
    "AML.M0024": "AI Telemetry Logging",
    "AML.M0025": "Maintain AI Dataset Provenance",
}

OWASP: dict[str, str] = {
    "ML01:2023": "Input Manipulation Attack",
    "ML02:2023": "Data Poisoning Attack",
    "ML03:2023": "Model Inversion Attack",
    "ML04:2023": "Membership Inference Attack",
    "ML05:2023": "Model Theft",
    "ML06:2023": "AI Supply Chain Attacks",
    "ML09:2023": "Output Integrity Attack",
    "ML10:2023": "Model Poisoning",
}

NIST: dict[str, str] = {
    "NISTAML.013": "Data Poisoning",
    "NISTAML.014": "Energy-latency",
    "NISTAML.021": "Clean-label Backdoor",
    "NISTAML.022": "Evasion",
    "NISTAML.023": "Backdoor Poisoning",
    "NISTAML.025": "Black-box Evasion",
    "NISTAML.032": "Reconstruction",
    "NISTAML.033": "Membership Inference",
    "NISTAML.051": "Model Poisoning (supply chain)",
}

CWE: dict[str, str] = {
    "CWE-20": "Improper Input Validation",
    "CWE-22": "Path Traversal",
    "CWE-94": "Code Injection",
    "CWE-200": "Exposure of Sensitive Information to an Unauthorized Actor",
    "CWE-203": "Observable Discrepancy",
    "CWE-223": "Omission of Security-relevant Information",
    "CWE-250": "Execution with Unnecessary Privileges",
    "CWE-345": "Insufficient Verification of Data Authenticity",
    "CWE-347": "Improper Verification of Cryptographic Signature",
    "CWE-354": "Improper Validation of Integrity Check Value",
    "CWE-494": "Download of Code Without Integrity Check",
    "CWE-502": "Deserialization of Untrusted Data",
    "CWE-693": "Protection Mechanism Failure",
    "CWE-732": "Incorrect Permission Assignment",
    "CWE-770": "Allocation of Resources Without Limits or Throttling",
    "CWE-778": "Insufficient Logging",
    "CWE-799": "Improper Control of Interaction Frequency",
    "CWE-834": "Excessive Iteration",
    "CWE-1039": "Inadequate Detection or Handling of Adversarial Input Perturbations in Automated Recognition "
    "Mechanism",
    "CWE-1357": "Reliance on Insufficiently Trustworthy Component",
}

# What rows and findings of one kind share.
EVASION = ("AML.T0015", "AML.T0043.000", "ML01:2023", "NISTAML.022", "CWE-1039")
FALSE_CLAIM = ("AML.T0031", "ML01:2023", "CWE-693")
POISONING = ("AML.T0020", "AML.T0043.004", "ML02:2023", "NISTAML.023", "NISTAML.021", "CWE-345")
WORKING_BACKDOOR = ("AML.T0020", "AML.T0043.004", "ML10:2023", "NISTAML.023")
BACKDOOR = ("AML.T0043.004", "AML.T0018.000", "ML10:2023", "NISTAML.023", "AML.M0008")
ARTEFACT = ("AML.T0018", "AML.T0010.003", "ML06:2023", "ML10:2023", "CWE-345")
AUDIT_TRAIL = ("AML.T0024", "ML09:2023", "AML.M0024", "CWE-778", "CWE-223")
PRIVACY = ("AML.T0024.000", "AML.T0024.001", "ML03:2023", "ML04:2023", "NISTAML.032", "NISTAML.033", "CWE-200")
EXHAUSTION = ("AML.T0029", "AML.T0034.001", "AML.M0004", "CWE-770")
LOADING = ("AML.T0011.000", "AML.T0018.002", "ML06:2023", "AML.M0011", "CWE-502")

NAMES: dict[str, str] = {**ATLAS, **ATLAS_MITIGATIONS, **OWASP, **NIST, **CWE}
