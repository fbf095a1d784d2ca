"""One network's robust accuracy, measured the three ways whose lowest is the claim: transferred, one step, many steps."""

from __future__ import annotations

import numpy as np

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import rate
from secure_ai.data.dataset import Dataset
from secure_ai.models.evaluate import Evaluation
from secure_ai.models.target import Target
from secure_ai.red.evasion.catalogue import parse_attacks
from secure_ai.red.evasion.harness import SuiteResult, run_suite
from secure_ai.red.evasion.trust import judge_suite
from secure_ai.runs.stage import Work
from secure_ai.runs.steps import Collected


def suite(
    work: Work, target: Target, dataset: Dataset, budget: PerturbationBudget, attacks: str, progress_name: str = ""
) -> SuiteResult:
    """Run the attacks named in `attacks` on the whole data set under the harness."""
    return run_suite(
        target,
        dataset.images,
        dataset.labels,
        budget=budget,
        attacks=parse_attacks(attacks),
        seed=work.settings["seed"],
        progress=work.progress,
    )


def add_suite(
    collected: Collected, name: str, result: SuiteResult, target: Target, budget: PerturbationBudget, protocol: str
) -> None:
    """Add a suite's robust accuracy with its trust verdict, and what it cost."""
    trust = judge_suite(result, target_digest=target.digest)
    collected.rate(name, "robust_accuracy", result.robust_accuracy, protocol, budget=budget, trust=trust)
    collected.value(f"{name}/attacks", [row.as_json() for row in result.rows])


def add_white_box(
    work: Work, collected: Collected, target: Target, dataset: Dataset, budget: PerturbationBudget, steps: int
) -> None:
    """White-box FGSM and PGD on the network itself, true labels."""
    one = suite(work, target, dataset, budget, "fgsm")
    add_suite(collected, "fgsm", one, target, budget, "white-box FGSM on this network, true labels")
    many = suite(work, target, dataset, budget, f"pgd:steps={steps}")
    add_suite(collected, "pgd", many, target, budget, f"white-box PGD-{steps} on this network, true labels")


def transferred_rate(clean: Evaluation, attacked: Evaluation) -> tuple[int, int]:
    """Samples right on the clean image and on the example made elsewhere, and all samples."""
    return int(((clean.predictions == clean.labels) & (attacked.predictions == attacked.labels)).sum()), len(
        clean.labels
    )


def add_transferred(
    collected: Collected,
    clean: Evaluation,
    attacked: Evaluation,
    target: Target,
    budget: PerturbationBudget,
    made_for: Target,
    n_attacks: str,
) -> None:
    """Robust accuracy on examples made for another network: never a claim, and the trust verdict says so."""
    from secure_ai.red.evasion.trust import judge_examples

    trust = judge_examples(n=len(clean.labels), made_for_digest=made_for.digest, target_digest=target.digest)
    hits, n = transferred_rate(clean, attacked)
    protocol = f"{n_attacks} examples made for {made_for.name}"
    collected.rate("transferred", "robust_accuracy", rate(hits, n), protocol, budget=budget, trust=trust)


def top_wrong_share(evaluation: Evaluation, k: int = 1) -> float | None:
    """Share of errors that go to the most frequent `k` wrong classes of their true label; None without errors."""
    confusion = np.array(evaluation.confusion)
    np.fill_diagonal(confusion, 0)
    total = int(confusion.sum())
    return float(np.sort(confusion, axis=1)[:, -k:].sum() / total) if total else None
