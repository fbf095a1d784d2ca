"""A network's robust accuracy, measured the three ways whose lowest is the claim: transferred, one step, many steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import rate
from secure_ai.core.trust import Check, check, judge, sample_size_check
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.evaluate import Evaluation
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.transfer import bind_borrowed
from secure_ai.red.evasion.contract import SHARD_SIZE, Progress, ignore_progress
from secure_ai.red.evasion.suite.access import plans_for
from secure_ai.red.evasion.suite.harness import run_suite, score_examples
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.health import GradientHealth, gradient_health
from secure_ai.red.evasion.trust.judge import judge_examples, judge_suite
from secure_ai.runs.engine.stage import Work
from secure_ai.runs.stages.collected import Collected


def whole_suite(
    target: NetworkTarget,
    dataset: Dataset,
    budget: PerturbationBudget,
    attacks: str,
    seed: int,
    progress: Progress = ignore_progress,
    *,
    surrogate: NetworkTarget | None = None,
    keep_examples: bool = False,
) -> SuiteResult:
    """The suite over every image. A stage keeps nothing partial: an interruption is raised again."""
    plans = bind_borrowed(plans_for(attacks, budget.norm, target.access), network=surrogate)
    result = run_suite(
        target,
        dataset.images,
        dataset.labels,
        budget=budget,
        attacks=plans,
        seed=seed,
        progress=progress,
        keep_examples=keep_examples,
    )
    if result.interruption is not None:
        raise result.interruption
    return result


def add_suite(
    collected: Collected,
    name: str,
    result: SuiteResult,
    protocol: str,
    gradients: GradientHealth | None = None,
    more: Sequence[Check] = (),
    *,
    dataset: Dataset | None = None,
    robust: np.ndarray | None = None,
) -> None:
    """Add a suite's robust accuracy with its trust verdict, what each attack of it cost, and how to replay it.

    Args:
        dataset: what was attacked; without it the measurement has no replay.
        robust: (N,) bool, where it is not the suite's own: a worst case over more than this suite.
    """
    trust = judge_suite(result, gradients=gradients, more=more)
    value = result.robust_accuracy if robust is None else rate(int(robust.sum()), len(robust))
    right = result.robust if robust is None else robust
    collected.rate(name, "robust_accuracy", value, protocol, budget=result.budget, trust=trust, right=right)
    collected.value(f"{name}/attacks", [row.as_json() for row in result.rows])
    if dataset is not None:
        collected.replay_record(name, replay_record(result, dataset))


def replay_record(result: SuiteResult, dataset: Dataset) -> dict[str, Any]:
    """What makes a suite's examples again, bit for bit, and the digests that a replay compares with."""
    broken = np.flatnonzero(result.broken_by >= 0)
    return {
        "attacks": [{"name": plan.name, "settings": plan.all_settings} for plan in result.plans],
        "norm": result.budget.norm,
        "eps": result.budget.eps,
        "seed": result.seed,
        "independent": result.independent,
        "model_digest": result.model_digest,
        "data": {"role": "test", "digest": dataset.digest, "n": len(dataset)},
        "threads": torch.get_num_threads(),
        "shard_size": SHARD_SIZE,
        "shards": list(result.shard_digests),
        "robust": int(result.robust.sum()),
        "example": int(dataset.indices[broken[0]]) if len(broken) else None,
    }


def add_white_box(
    work: Work, collected: Collected, target: NetworkTarget, dataset: Dataset, budget: PerturbationBudget, steps: int
) -> None:
    """White-box FGSM and PGD on the network itself, true labels, all images."""
    gradients = gradient_health(target, dataset.images, dataset.labels)
    plans = {"fgsm": ("fgsm", "FGSM"), "pgd": (f"pgd:steps={steps}", f"PGD-{steps}")}
    for name, (text, title) in plans.items():
        result = whole_suite(target, dataset, budget, text, work.settings["seed"], work.progress)
        protocol = f"white-box {title} on this network, true labels"
        add_suite(collected, name, result, protocol, gradients, dataset=dataset)


def add_transferred(
    collected: Collected,
    target: NetworkTarget,
    dataset: Dataset,
    examples: np.ndarray,
    budget: PerturbationBudget,
    made_for: NetworkTarget,
) -> None:
    """Accuracy on FGSM examples made for another network: never a claim, and the trust verdict says so.

    Args:
        examples: (N, C, H, W) float32, one for every image of `dataset`.
    """
    score = score_examples(target, examples, dataset.labels, dataset.images, budget=budget, made_for=made_for.digest)
    protocol = f"FGSM examples made for {made_for.name}"
    trust = judge_examples(score)
    collected.rate("transferred", "robust_accuracy", score.robust_accuracy, protocol, budget=budget, trust=trust)
    collected.value("transferred-all", score.adversarial_accuracy.as_json() | {"trust": trust.as_json()})


def one_step_rate(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracy under one FGSM step as a report counts it, with the trust that such a number deserves."""
    accuracy = evaluation.accuracy
    checks = [
        sample_size_check(accuracy.n),
        check("one-step-only", False, "one attack of one step"),
        check("clean-errors-counted", None, "misclassified images count as attacked, as in the report"),
    ]
    return accuracy.as_json() | {"trust": judge(checks, breaking=frozenset()).as_json()}
