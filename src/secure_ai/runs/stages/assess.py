"""What `assess` does with a user's network: preflight, clean accuracy, the suite with its verdict, the curve."""

from __future__ import annotations

from typing import Any

from secure_ai.core.budget import PerturbationBudget, parse_budget
from secure_ai.core.compute import configure
from secure_ai.core.errors import DigestMismatchError
from secure_ai.core.findings import Finding, Severity
from secure_ai.core.trust import Check, CheckOutcome
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import sample_n
from secure_ai.models.evaluate import evaluate
from secure_ai.models.preflight import Preflight
from secure_ai.models.store import LoadedModel, load_model
from secure_ai.red.evasion.catalogue import check_cost, parse_attacks
from secure_ai.red.evasion.diagnosis.diagnose import diagnose
from secure_ai.red.evasion.health import gradient_health
from secure_ai.runs.attack import examine, probes, random_sample_check, target_for
from secure_ai.runs.jsons import json_bytes
from secure_ai.runs.model_spec import SUBJECT, ModelSpec
from secure_ai.runs.stage import Outputs, Work
from secure_ai.runs.stages.collected import Collected
from secure_ai.runs.stages.robustness import add_suite, whole_suite


def _spec(work: Work) -> ModelSpec:
    s = work.settings
    return ModelSpec(
        model=s["model"],
        arch=s["arch"],
        mean=tuple(s["mean"]),
        std=tuple(s["std"]),
        value_range=tuple(s["value_range"]),
    )


def _subject(work: Work, dataset: Dataset) -> tuple[LoadedModel, Preflight]:
    spec = _spec(work)
    loaded = load_model(
        spec.model, arch=spec.arch, classes=dataset.classes, input_shape=dataset.input_shape, events=work.events
    )
    if loaded.file_sha256 != work.settings["file_sha256"]:
        raise DigestMismatchError(
            "the model file changed since this run began",
            where=loaded.name,
            expected=work.settings["file_sha256"],
            got=loaded.file_sha256,
        )
    target = target_for(loaded, dataset, spec, search_dtype=configure(work.precision).search_dtype)
    checked = examine(target, dataset, work.settings["seed"])
    return loaded, checked


def _sample(work: Work) -> Dataset:
    dataset, n = work.data("test"), work.settings["n"]
    return dataset if len(dataset) <= n else sample_n(dataset, n, work.settings["seed"])


def _budget(work: Work, dataset: Dataset) -> PerturbationBudget:
    channels, height, width = dataset.input_shape
    return parse_budget(work.settings["norm"], work.settings["eps"], channels * height * width)


def attack_subject(work: Work) -> Outputs:
    """Preflight, clean accuracy and the suite on the recipe's sample."""
    dataset = _sample(work)
    budget, plans = _budget(work, dataset), parse_attacks(work.settings["attack"], work.settings["norm"])
    check_cost(plans, len(dataset))
    loaded, checked = _subject(work, dataset)
    target, seed = checked.target, work.settings["seed"]
    result = whole_suite(target, dataset, budget, work.settings["attack"], seed, work.progress)
    collected = Collected(stage="assess/attack", model=SUBJECT, replay="")
    collected.rate("clean", "clean_accuracy", result.clean_accuracy, f"{dataset.note or 'all images'}, unmodified")
    names = ", ".join(plan.name for plan in plans)
    gradients = gradient_health(target, dataset.images, dataset.labels)
    more = [*checked.checks, random_sample_check(dataset), *probes(target, dataset, result)]
    add_suite(collected, "attacked", result, f"worst case over {names}", gradients, more)
    model = {
        "id": SUBJECT,
        "role": SUBJECT,
        "digest": loaded.digest,
        "format": loaded.format,
        "arch": loaded.arch,
        "user_code": loaded.user_code,
        "preflight": [check.as_json() for check in checked.checks],
        "fixes": list(checked.fixes),
    }
    content = {
        "measurements": collected.measurements,
        "values": collected.values,
        "models": [model],
        "findings": [finding.as_json() for finding in _preflight_findings(checked.checks)],
    }
    return {"result.json": json_bytes(content)}


def _preflight_findings(checks: tuple[Check, ...]) -> list[Finding]:
    return [
        Finding(
            id="SAI-PF-001",
            severity=Severity.LOW,
            severity_rule="a preflight check failed: figures may not mean what they seem to",
            message=f"preflight {check.id}: {check.evidence}",
            location=SUBJECT,
            evidence={"check": check.id},
            remediation="feed the network as it was trained: --mean, --std, --range",
        )
        for check in checks
        if check.outcome is CheckOutcome.FAIL
    ]


def security_curve(work: Work) -> Outputs:
    """Robust accuracy over a grid of eps, as multiples of the recipe's; each point with its own trust verdict.

    The probes are made once, at the recipe's eps, and count for every point.
    """
    dataset = _sample(work)
    budget = _budget(work, dataset)
    _, checked = _subject(work, dataset)
    target = checked.target
    attacks, seed = work.settings["attack"], work.settings["seed"]
    collected = Collected(stage="assess/curve", model=SUBJECT, replay="")
    gradients = gradient_health(target, dataset.images, dataset.labels)
    probed = diagnose(target, dataset.images, dataset.labels, budget, seed, attacks=parse_attacks(attacks, budget.norm))
    more = [*checked.checks, random_sample_check(dataset), *probed]
    points: list[dict[str, Any]] = []
    largest = 1.0 if budget.norm == "linf" else float("inf")
    grid = sorted({min(factor * budget.eps, largest) for factor in work.settings["curve"]})
    for number, eps in enumerate(grid):
        if eps > 0:
            result = whole_suite(target, dataset, PerturbationBudget(budget.norm, eps), attacks, seed)
            add_suite(collected, f"curve/{eps:g}", result, f"worst case over {attacks}, eps {eps:g}", gradients, more)
            accuracy = result.robust_accuracy
        else:
            accuracy = evaluate(target, dataset.images, dataset.labels).accuracy
        points.append({"eps": eps, "accuracy": accuracy.as_json()})
        work.progress(number + 1, len(grid))
    collected.value("curve", points)
    return collected.outputs()
