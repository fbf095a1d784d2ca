"""A network's robust accuracy, measured the three ways whose lowest is the claim: transferred, one step, many steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.trust import check, judge, sample_size_check
from secure_ai.data.dataset import Dataset
from secure_ai.models.preflight.preflight import Preflight
from secure_ai.models.target.evaluate import Evaluation
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.contract import SHARD_SIZE
from secure_ai.red.evasion.suite.access import plans_for
from secure_ai.red.evasion.suite.harness import score_examples
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.judge import judge_examples
from secure_ai.red.evasion.trust.judged import Judged, judge_single
from secure_ai.runs.engine.stage import Work
from secure_ai.runs.stages.collected import Collected


def finished(judged: Judged) -> Judged:
    """As it is; a stage keeps nothing partial, so that an interruption is raised again."""
    if judged.result.interruption is not None:
        raise judged.result.interruption
    return judged


def add_judged(collected: Collected, name: str, judged: Judged, protocol: str, dataset: Dataset) -> None:
    """Add the robust accuracy on `dataset` with its verdict, what each attack cost, and how to replay it."""
    result = judged.result
    collected.rate(
        name,
        "robust_accuracy",
        judged.robust_accuracy,
        protocol,
        budget=result.budget,
        trust=judged.trust,
        right=judged.robust,
    )
    collected.value(f"{name}/attacks", [row.as_json() for row in result.rows])
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
    work: Work, collected: Collected, checked: Preflight, dataset: Dataset, budget: PerturbationBudget, steps: int
) -> None:
    """White-box FGSM and PGD on the network itself, true labels, all images."""
    target, seed = checked.target, work.settings["seed"]
    plans = {"fgsm": ("fgsm", "FGSM"), "pgd": (f"pgd:steps={steps}", f"PGD-{steps}")}
    for name, (text, title) in plans.items():
        (plan,) = plans_for(text, budget.norm, target.access)
        judged = judge_single(target, dataset, budget, plan, seed, checked=checked, progress=work.progress)
        protocol = f"white-box {title} on this network, true labels"
        add_judged(collected, name, finished(judged), protocol, dataset)


def add_transferred(
    collected: Collected,
    target: Target,
    dataset: Dataset,
    examples: np.ndarray,
    budget: PerturbationBudget,
    made_for: Target,
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
