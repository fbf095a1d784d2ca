"""A realistic report.json, built the way a run builds it; loaded by the `sample` fixture of this folder."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.comparisons import Confusion
from secure_ai.core.findings import Finding, Severity
from secure_ai.core.results import MeasuredQuantity, Measurement, Rate, rate
from secure_ai.core.trust import Trust, check, judge, sample_size_check
from secure_ai.runs.cases.report_1.figures import FIGURE_1
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.recipe.recipe import load_recipe
from secure_ai.runs.reproduction.reproduction import compare
from secure_ai.runs.reproduction.values import Measured
from secure_ai.threats.register import threat_rows

LINF_025 = PerturbationBudget("linf", 0.25, "0.25")
LINF_03 = PerturbationBudget("linf", 0.3, "0.3")

# FGSM errors that pile up on few classes, and errors that fall evenly.
TOP = [3, 3, 3, 8, 3, 3, 3, 3, 3, 3]
PILED = [[150 if row == col else 600 if col == TOP[row] else 30 for col in range(10)] for row in range(10)]
EVEN = [[150 if row == col else 94 for col in range(10)] for row in range(10)]

BROKEN = judge([check("made-for-another-network", False, "examples made for report-1/baseline")],
               breaking=frozenset({"made-for-another-network"}))  # fmt: skip
ONE_STEP = judge([check("one-step-only", False, "the suite holds one single-step attack")], breaking=frozenset())

# id: (share, n, metric, budget, trust)
RATES: dict[str, tuple[float, int, str, PerturbationBudget | None, Trust | None]] = {
    "report-1/baseline/clean": (0.9895, 10000, "clean_accuracy", None, None),
    "report-1/baseline/fgsm": (0.150, 10000, "robust_accuracy", LINF_025, ONE_STEP),
    "report-1/baseline/pgd": (0.0, 10000, "robust_accuracy", LINF_025, None),
    "report-1/baseline/backdoor-badnets": (0.0011, 8972, "backdoor_success_rate", None, None),
    "report-1/baseline/backdoor": (0.0014, 8972, "backdoor_success_rate", None, None),
    "report-1/defended-p/clean": (0.9890, 10000, "clean_accuracy", None, None),
    "report-1/defended-p/transferred": (0.992, 10000, "robust_accuracy", LINF_025, BROKEN),
    "report-1/defended-p/fgsm": (0.059, 10000, "robust_accuracy", LINF_025, ONE_STEP),
    "report-1/defended-p/pgd": (0.0, 10000, "robust_accuracy", LINF_025, None),
    "report-1/defended-l/clean": (0.9901, 10000, "clean_accuracy", None, None),
    "report-1/defended-l/transferred": (0.929, 10000, "robust_accuracy", LINF_025, BROKEN),
    "report-1/defended-l/fgsm": (0.9177, 10000, "robust_accuracy", LINF_025, ONE_STEP),
    "report-1/defended-l/pgd": (0.330, 10000, "robust_accuracy", LINF_025, None),
    "report-1/poisoned/clean": (0.9875, 10000, "clean_accuracy", None, None),
    "report-1/poisoned/sevens-clean": (0.9883, 1028, "clean_accuracy", None, None),
    "report-1/poisoned/sevens-triggered": (0.9912, 1028, "triggered_target_class_accuracy", None, None),
    "report-1/poisoned/backdoor": (0.0012, 8972, "backdoor_success_rate", None, None),
    "report-1/badnets/clean": (0.9884, 10000, "clean_accuracy", None, None),
    "report-1/badnets/sevens-clean": (0.9893, 1028, "clean_accuracy", None, None),
    "report-1/badnets/sevens-triggered": (0.9990, 1028, "triggered_target_class_accuracy", None, None),
    "report-1/badnets/backdoor": (0.9981, 8972, "backdoor_success_rate", None, None),
    "report-2/baseline/clean": (0.9903, 10000, "clean_accuracy", None, None),
    "report-2/baseline/fgsm": (0.182, 10000, "robust_accuracy", LINF_03, ONE_STEP),
    "report-2/baseline/pgd": (0.0, 10000, "robust_accuracy", LINF_03, None),
    "report-2/baseline/backdoor": (0.0029, 1028, "backdoor_success_rate", None, None),
    "report-2/defended/clean": (0.9899, 10000, "clean_accuracy", None, None),
    "report-2/defended/transferred": (0.943, 10000, "robust_accuracy", LINF_03, BROKEN),
    "report-2/defended/fgsm": (0.842, 10000, "robust_accuracy", LINF_03, ONE_STEP),
    "report-2/defended/pgd": (0.021, 10000, "robust_accuracy", LINF_03, None),
    "report-2/poisoned/clean": (0.9878, 10000, "clean_accuracy", None, None),
    "report-2/poisoned/backdoor": (0.9728, 1028, "backdoor_success_rate", None, None),
}

OTHER_RATES = {
    "report-1/baseline/fgsm-predicted": rate(1570, 10000),
    "report-2/baseline/fgsm-640": rate(112, 640),
    "report-2/defended/fgsm-640": rate(523, 640),
}
CONFUSIONS: dict[str, Sequence[Sequence[int]]] = {
    "report-1/baseline/clean/confusion": FIGURE_1,
    "report-1/baseline/fgsm-predicted/confusion": PILED,
    "report-2/baseline/clean/confusion": FIGURE_1,
}
NUMBERS: dict[str, float] = {
    "report-1/baseline/clean/loss": 0.0338,
    "report-1/baseline/train/seconds": 31.4,
    "report-1/baseline/inference/seconds": 1.42,
    "report-1/baseline/inference/images": 10000,
    "report-1/baseline/fgsm-predicted/loss": 3.91,
    "report-1/baseline/fgsm-predicted/seconds": 3.3,
    "report-1/defended-p/clean/loss": 0.0391,
    "report-1/defended-p/transferred/loss": 0.0412,
    "report-1/defended-p/fgsm-predicted/loss": 9.87,
    "report-1/defended-p/train/seconds": 48.0,
    "report-1/poisoned/clean/loss": 0.0361,
    "report-1/poisoned/train/seconds": 31.0,
    "report-1/poisoned/sevens-triggered/loss": 0.0265,
    "report-1/poisoned/target-class-images": 6265,
    "report-1/audit/medium": 1,
    "report-2/baseline/clean/loss": 0.0384,
    "report-2/baseline/inference/seconds": 3.8,
    "report-2/baseline/inference/images": 10000,
    "report-2/poisoned/backdoor/confidence": 0.94,
}

MODELS = tuple(dict.fromkeys(name.rsplit("/", 1)[0] for name in RATES))


def r(share: float, n: int = 10000) -> Rate:
    """A rate of about `share`."""
    return rate(round(share * n), n)


def measurement(
    name: str, value: Rate, metric: str, budget: PerturbationBudget | None = None, trust: Trust | None = None
) -> Measurement:
    """The entry of that id."""
    model, _, condition = name.rpartition("/")
    return Measurement(
        id=name,
        model=model,
        metric=metric,
        value=value,
        protocol=f"{condition}, all test images",
        condition=condition,
        stage=f"{model}/measure",
        replay=f"secure-ai run --recipe {name.split('/')[0]}",
        budget=budget,
        trust=trust or judge([sample_size_check(value.n)], breaking=frozenset()),
    )


def measurements() -> tuple[Measurement, ...]:
    """Entries of `measurements`."""
    return tuple(
        measurement(name, r(share, n), metric, budget, trust)
        for name, (share, n, metric, budget, trust) in RATES.items()
    )


def measured() -> Measured:
    """Everything that the reproduction table asks for."""
    others = [measurement(name, value, "accuracy") for name, value in OTHER_RATES.items()]
    return Measured(
        {entry.id: entry for entry in (*measurements(), *others)},
        {
            name: MeasuredQuantity(id=name, model=name.rsplit("/", 2)[0], metric="x", value=value, unit="", stage="s")
            for name, value in NUMBERS.items()
        },
        {
            name: Confusion(id=name, model=name.rsplit("/", 2)[0], counts=tuple(map(tuple, counts)))
            for name, counts in CONFUSIONS.items()
        },
    )


def findings() -> tuple[Finding, ...]:
    """Five findings, one of which the tool planted itself."""
    return (
        Finding(
            id="SAI-EV-002",
            severity=Severity.HIGH,
            severity_rule="a robust accuracy whose trust is broken stands above another, intervals apart",
            message="report-1/defended-p: 99.20 % (broken) on examples made for the baseline, 0.00 % under PGD-40",
            location="report-1/defended-p",
            evidence={
                "claimed": "report-1/defended-p/transferred",
                "lowest": "report-1/defended-p/pgd",
                "points": 99.2,
            },
            taxonomy=("AML.T0031", "ML01:2023", "CWE-693"),
            remediation="publish the lowest robust accuracy, measured with attacks on this network",
            reproduce="secure-ai run --recipe report-1",
        ),
        Finding(
            id="SAI-BD-001",
            severity=Severity.CRITICAL,
            severity_rule="backdoor success above 5 % and above the clean network's own rate, intervals apart",
            message="report-1/badnets: the trigger sends 99.81 % to the target class (0.14 % on the clean network)",
            location="report-1/badnets",
            evidence={"measurement": "report-1/badnets/backdoor"},
            taxonomy=("AML.T0020", "AML.T0043.004"),
            remediation="retrain on data whose provenance is verified",
            reproduce="secure-ai run --recipe report-1",
            planted=True,
        ),
        Finding(
            id="SAI-EV-001",
            severity=Severity.MEDIUM,
            severity_rule="the whole interval of the robust accuracy lies below 50 %",
            message="report-1/defended-l keeps 33.00 % of the images right under PGD-40",
            location="report-1/defended-l",
            evidence={"measurement": "report-1/defended-l/pgd"},
            taxonomy=("AML.T0015", "CWE-1039"),
            remediation="train with many-step examples",
            reproduce="secure-ai run --recipe report-1",
        ),
        Finding(
            id="B301",
            severity=Severity.MEDIUM,
            severity_rule="as Bandit rates it",
            message="pickle.load on a cache file",
            location="demonstrations/cache_demo.py:14",
            evidence={"line": 14},
            taxonomy=("CWE-502",),
            remediation="use JSON",
            reproduce="secure-ai audit code demonstrations",
        ),
        Finding(
            id="B101",
            severity=Severity.LOW,
            severity_rule="as Bandit rates it",
            message="assert used for a check",
            location="demonstrations/idx reader.py:7",
            taxonomy=("CWE-703",),
            remediation="raise an error",
        ),
    )


def as_json(rows: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Rows of a list of the report as they are written."""
    return [TypeAdapter(type(row)).dump_python(row, mode="json") for row in rows]


def titles() -> dict[str, str]:
    """Title of every network of the cases."""
    recipe = load_recipe("standard")
    return {network.id: network.title for case in CASES for network in case.networks(recipe)}


def build(**changes: Any) -> dict[str, Any]:
    """The report; keyword arguments replace top-level keys."""
    found = findings()
    threats = threat_rows([row for case in CASES for row in case.threats], measurements(), found)
    report: dict[str, Any] = {
        "schema_version": 1,
        "tool": {"name": "secure-ai", "version": "0.1.0"},
        "run": {
            "id": "3f9a12c07be48d55",
            "recipe": "standard",
            "complete": True,
            "seconds": 671.3,
            "seed": 42,
            "deviates": "",
            "command": "secure-ai run",
            "stage_seconds": {"report-1/baseline": 31.4, "report-1/defended-p": 48.0, "audit/code": 8.2},
            "reused": ["report-1/baseline"],
            "machine": {"processor": "x86_64", "threads": 2, "bf16_units": ["amx_bf16"]},
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
        },
        "models": [
            {"id": name, "title": titles()[name], "role": name.split("/")[1].split("-")[0], "digest": f"{i:x}" * 64,
             "format": "safetensors", "arch": "report1-cnn" if "report-1" in name else "report2-cnn"}
            for i, name in enumerate(MODELS)
        ],
        "data": [
            {"id": "train", "name": "mnist:train", "digest": "a1" * 32, "n": 60000, "note": ""},
            {"id": "test", "name": "mnist:test", "digest": "b2" * 32, "n": 10000, "note": ""},
        ],
        "measurements": [entry.as_json() for entry in measurements()],
        "reproduction": as_json(compare(measured(), [row for case in CASES for row in case.figures])),
        "findings": [finding.as_json() for finding in found],
        "threats": as_json(threats),
        "not_tested": [
            "adaptive attacks against these defences: not done",
            "other training seeds: every interval covers these images and this one network",
        ],
        "confusions": [
            {"id": "report-1/baseline/clean/confusion", "model": "report-1/baseline", "title": "Baseline, clean images",
             "counts": [list(row) for row in FIGURE_1]},
        ],
    }  # fmt: skip
    return {**copy.deepcopy(report), **changes}


def subject_report(share: float, *, n: int = 1000, trust: Trust | None = None) -> dict[str, Any]:
    """A report of the `assess` recipe: one user's model with one robust accuracy."""
    reliable = judge([sample_size_check(1000)], breaking=frozenset())
    entry = Measurement(
        id="subject/pgd", model="subject", metric="robust_accuracy", value=r(share, n), protocol="PGD-40",
        stage="assess", replay="secure-ai attack", budget=PerturbationBudget("linf", 8 / 255, "8/255"),
        trust=trust or reliable,
    ).as_json()  # fmt: skip
    model = {"id": "subject", "role": "subject", "digest": "c3" * 32, "format": "safetensors", "arch": "report1-cnn"}
    return build(models=[model], measurements=[entry], reproduction=[], threats=[], findings=[])


def with_measurement(report: Mapping[str, Any], identifier: str, value: Rate) -> dict[str, Any]:
    """`report` with another rate under `identifier`."""
    changed = copy.deepcopy(dict(report))
    for entry in changed["measurements"]:
        if entry["id"] == identifier:
            entry["value"] = value.as_json()
    return changed
