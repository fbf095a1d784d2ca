"""What `assess` does with a user's network: preflight, clean accuracy, the suite with its verdict, curve, distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from secure_ai.core.budget import PerturbationBudget, largest_budget, parse_budget
from secure_ai.core.errors import DigestMismatchError
from secure_ai.core.findings import Finding, Severity
from secure_ai.core.results import CURVE_STAGE, rate
from secure_ai.core.statistics import mcnemar_exact
from secure_ai.core.trust import Check, CheckOutcome, Trust, check, judge, sample_size_check
from secure_ai.data.dataset import Dataset
from secure_ai.models.load.store import LoadedModel
from secure_ai.models.preflight.preflight import ONLY_FOR_ATTACKS, Preflight, same_answers
from secure_ai.models.target.access import Access
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.access import plans_for
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.model_spec import SUBJECT, ModelSpec
from secure_ai.runs.stages.collected import Collected
from secure_ai.runs.stages.distances import minimum_distances
from secure_ai.runs.stages.gallery import gallery, npz_bytes, spread_over_classes
from secure_ai.runs.stages.robustness import add_suite, whole_suite
from secure_ai.runs.stages.transfers import matrix, sample
from secure_ai.runs.subject import load_subject
from secure_ai.runs.verbs.attack import data_checks, examine, health_where_seen, probes, survivor_probes, target_for

SIGNIFICANT = 0.05


def _spec(work: Work, model: str | None, arch: str | None, access: Access) -> ModelSpec:
    s = work.settings
    return ModelSpec(
        model=model,
        arch=arch,
        access=access,
        mean=tuple(s["mean"]),
        std=tuple(s["std"]),
        value_range=tuple(s["value_range"]),
    )


def _subject(work: Work, dataset: Dataset) -> tuple[LoadedModel, Preflight]:
    settings = work.settings
    spec = _spec(work, settings["model"], settings["arch"], settings["access"])
    return _examined(work, dataset, spec, "file_sha256")


def _surrogate(work: Work, dataset: Dataset) -> tuple[LoadedModel, Preflight] | None:
    if work.settings["surrogate"] is None:
        return None
    spec = _spec(work, work.settings["surrogate"], work.settings["surrogate_arch"], "gradients")
    return _examined(work, dataset, spec, "surrogate_sha256")


def _examined(work: Work, dataset: Dataset, spec: ModelSpec, digest: str) -> tuple[LoadedModel, Preflight]:
    loaded = load_subject(spec, dataset, work.events)
    if loaded.file_sha256 != work.settings[digest]:
        raise DigestMismatchError(
            "the model file changed since this run began",
            where=loaded.name,
            expected=work.settings[digest],
            got=loaded.file_sha256,
        )
    target = target_for(loaded, dataset, spec)
    checked = examine(target, dataset, work.settings["seed"])
    return loaded, checked


def _sample(work: Work) -> Dataset:
    return sample(work.data("test"), work.settings["n"], work.settings["seed"])


def _budget(work: Work, dataset: Dataset) -> PerturbationBudget:
    channels, height, width = dataset.input_shape
    return parse_budget(work.settings["norm"], work.settings["eps"], channels * height * width)


def attack_subject(work: Work) -> Outputs:
    """Preflight, clean accuracy and the suite on the recipe's sample."""
    dataset = _sample(work)
    budget = _budget(work, dataset)
    loaded, checked = _subject(work, dataset)
    target, seed = checked.target, work.settings["seed"]
    other = _surrogate(work, dataset)
    surrogate = other[1].target if other else None
    attacks = work.settings["attack"]
    plans = plans_for(attacks, budget.norm, target.access)
    result = whole_suite(target, dataset, budget, attacks, seed, work.progress, surrogate=surrogate, keep_examples=True)
    collected = Collected(stage="assess/attack", model=SUBJECT)
    more = [*checked.checks, *data_checks(dataset), same_answers(checked)]
    protocol = f"{dataset.note or 'all images'}, unmodified"
    collected.rate("clean", "clean_accuracy", result.clean_accuracy, protocol, trust=_judge_clean(result, more))
    names = ", ".join(plan.name for plan in plans)
    gradients = health_where_seen(target, dataset)
    more += probes(target, dataset, budget, seed, plans, result.robust)
    add_suite(collected, "attacked", result, f"worst case over {names}", gradients, more, dataset=dataset)
    galleries, arrays = _galleries(result, target, dataset)
    content = {
        "measurements": collected.measurements,
        "values": collected.values,
        "replays": collected.replays,
        "models": [_model_json(SUBJECT, loaded, checked), *([_model_json("surrogate", *other)] if other else [])],
        "findings": [finding.as_json() for finding in _preflight_findings(checked.checks)],
        "galleries": galleries,
    }
    return {"result.json": json_bytes(content), "gallery.npz": npz_bytes(arrays)}


def _judge_clean(result: SuiteResult, more: Sequence[Check]) -> Trust:
    """The verdict on the accuracy without an attack: preflight's checks and the data's but for those of attacks."""
    asked = [made for made in more if made.id not in ONLY_FOR_ATTACKS]
    return judge([sample_size_check(len(result.eligible)), *asked], breaking=frozenset())


def _model_json(identifier: str, loaded: LoadedModel, checked: Preflight) -> dict[str, Any]:
    return {
        "id": identifier,
        "role": identifier,
        "digest": loaded.digest,
        "format": loaded.format,
        "arch": loaded.arch,
        "user_code": loaded.user_code,
        "access": checked.target.access,
        "preflight": [check.as_json() for check in checked.checks],
        "fixes": [*loaded.notes, *checked.fixes],
    }


def _galleries(
    result: SuiteResult, target: NetworkTarget, dataset: Dataset
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Examples of every attack that broke something; where none did, the strongest attempts."""
    groups = [
        (plan.name, f"broken by {plan.name}", result.broken_by == number) for number, plan in enumerate(result.plans)
    ]
    groups = [group for group in groups if group[2].any()]
    groups = groups or [("attempts", "not broken: the strongest attempts", result.robust)]
    galleries: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for name, title, allowed in groups:
        chosen = spread_over_classes(np.asarray(dataset.labels), allowed)
        if result.x_adv is None or not len(chosen):
            continue
        captions, images = gallery(target, dataset, chosen, result.x_adv[chosen], name, title)
        arrays |= {f"{key}-{len(galleries)}": value for key, value in images.items()}
        galleries.append(captions)
    return galleries, arrays


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

    An example within eps is within any larger eps: a sample broken at one eps counts as broken at all larger ones, so
    the curve cannot rise. How often the suite itself failed to find what it had found before is a check of its own.
    The probes are made once, at the recipe's eps, and count for every point; those that ask about the images that are
    left, and whether the network still answers as it did, are made at each.
    """
    dataset = _sample(work)
    budget = _budget(work, dataset)
    _, checked = _subject(work, dataset)
    target = checked.target
    other = _surrogate(work, dataset)
    attacks, seed = work.settings["attack"], work.settings["seed"]
    collected = Collected(stage=CURVE_STAGE, model=SUBJECT)
    gradients = health_where_seen(target, dataset)
    plans = plans_for(attacks, budget.norm, target.access)
    more = [*checked.checks, *data_checks(dataset), *probes(target, dataset, budget, seed, plans)]
    points: list[dict[str, Any]] = []
    grid = curve_grid(budget, work.settings["curve"], target.dimensions)
    robust = np.ones(len(dataset), dtype=bool)
    for number, eps in enumerate(grid):
        if eps > 0:
            here = PerturbationBudget(budget.norm, eps)
            result = whole_suite(target, dataset, here, attacks, seed, surrogate=other[1].target if other else None)
            law = monotone_check(robust, result.robust)
            robust = robust & result.robust
            protocol = f"worst case over {attacks} at eps {eps:g} and at every smaller eps of the grid"
            own = [law, same_answers(checked), *survivor_probes(target, dataset, here, seed, robust)]
            add_suite(
                collected, f"curve/{eps:g}", result, protocol, gradients, [*more, *own], dataset=dataset, robust=robust
            )
            accuracy = rate(int(robust.sum()), len(robust))
        else:
            clean = evaluate(target, dataset.images, dataset.labels)
            accuracy, robust = clean.accuracy, clean.predictions == clean.labels
        points.append({"eps": eps, "accuracy": accuracy.as_json()})
        work.progress(number + 1, len(grid))
    collected.value("curve", points)
    return collected.outputs()


def curve_grid(budget: PerturbationBudget, factors: Sequence[float], dimensions: int) -> list[float]:
    """The eps of the curve's points, rising: `factors` of the budget's, none beyond its norm's range; l0 whole."""
    largest = largest_budget(budget.norm, dimensions).eps
    points = {min(factor * budget.eps, largest) for factor in factors}
    return sorted({float(int(eps)) for eps in points} if budget.norm == "l0" else points)


def monotone_check(before: np.ndarray, now: np.ndarray) -> Check:
    """Fails where the suite at a larger eps leaves more samples right than at the smaller ones, beyond chance.

    Args:
        before: (N,) bool, right at every smaller eps.
        now: (N,) bool, right at this eps.
    """
    risen, fallen = int((~before & now).sum()), int((before & ~now).sum())
    p = mcnemar_exact(risen, fallen)
    evidence = (
        f"{risen} of {len(now)} samples broken at a smaller eps were not broken again (they count as broken), "
        f"{fallen} were broken anew; McNemar p = {p:.2g}"
    )
    return check("monotone-in-eps", risen <= fallen or p > SIGNIFICANT, evidence)


def _not_tested(reason: str) -> Outputs:
    """The stage's result where there is nothing to measure with, and why."""
    return {"result.json": json_bytes({"measurements": [], "values": {}, "not_tested": [reason]})}


def distance(work: Work) -> Outputs:
    """The median distance to the nearest adversarial example that a minimum-norm attack finds, on a smaller sample."""
    whole = _sample(work)
    dataset = sample(whole, work.settings["distance_n"], work.settings["seed"])
    _, checked = _subject(work, dataset)
    if checked.target.access != "gradients":
        return _not_tested(
            f"the median distance: its attacks follow gradients, and the network gives {checked.target.access} only"
        )
    norm, steps = work.settings["norm"], work.settings["distance_steps"]
    found = minimum_distances(checked, dataset, norm, steps, work.settings["seed"], work.progress)
    return {"result.json": json_bytes({"distances": [found], "measurements": [], "values": {}})}


def transferred(work: Work) -> Outputs:
    """The transfer matrix of the network and its surrogate."""
    dataset = _sample(work)
    other = _surrogate(work, dataset)
    if other is None:
        return {"result.json": json_bytes({"measurements": [], "values": {}})}
    subject = _subject(work, dataset)[1].target
    if subject.access != "gradients":
        reason = f"the transfer matrix: examples are made along gradients, and the network gives {subject.access} only"
        return _not_tested(reason)
    targets = {SUBJECT: subject, "surrogate": other[1].target}
    steps, seed = work.settings["transfer_steps"], work.settings["seed"]
    return matrix(targets, dataset, _budget(work, dataset), steps, seed, "assess/transfer", work.progress).outputs()
