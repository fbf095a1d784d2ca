"""The transfer matrix: every network on the examples made for every other one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from secure_ai.core.budget import PerturbationBudget
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import sample_n
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.transfer import transfer
from secure_ai.red.evasion.suite.harness import score_examples
from secure_ai.red.evasion.suite.result import ExamplesScore
from secure_ai.red.evasion.trust.judge import judge_examples
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.stages.collected import Collected
from secure_ai.runs.stages.gallery import gallery, npz_bytes, spread_over_classes
from secure_ai.runs.stages.steps import AddProgress, attack_every_image, target_of

METRIC = "transfer_accuracy"


def sample(dataset: Dataset, n: int, seed: int) -> Dataset:
    """A stratified random sample of `n`, or all where there are no more."""
    return dataset if len(dataset) <= n else sample_n(dataset, n, seed)


def report_networks(work: Work) -> Outputs:
    """The matrix over the reports' networks that were not poisoned, at one budget."""
    test = sample(work.data("test"), work.settings["n"], work.settings["seed"])
    targets = {stage: target_of(work, stage, arch, test.classes) for stage, arch in work.settings["networks"]}
    budget = PerturbationBudget("linf", work.settings["eps"])
    return matrix(
        targets, test, budget, work.settings["steps"], work.settings["seed"], "transfer/matrix", work.progress
    ).outputs()


class Matrix:
    """What `matrix` found, on its way into a stage's outputs."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {"measurements": [], "values": {}, "transfers": [], "galleries": []}
        self.arrays: dict[str, np.ndarray] = {}

    def outputs(self) -> Outputs:
        """`result.json`, and `gallery.npz` with the pictures' images."""
        return {"result.json": json_bytes(self.content), "gallery.npz": npz_bytes(self.arrays)}


def matrix(
    targets: Mapping[str, NetworkTarget],
    dataset: Dataset,
    budget: PerturbationBudget,
    steps: int,
    seed: int,
    stage: str,
    progress: AddProgress,
) -> Matrix:
    """Examples for each network, all of them scored on every network.

    The examples are those of the attack `transfer`: PGD with momentum, all steps, on every image, right or wrong. A
    rate is correct on the clean image and on the example ÷ all images.

    Args:
        targets: by model id; at least one.
        stage: the stage that measures.
    """
    found, rates = Matrix(), []
    labels = np.asarray(dataset.labels)
    correct = {name: evaluate(target, dataset.images, labels).predictions == labels for name, target in targets.items()}
    chosen = spread_over_classes(labels, np.logical_and.reduce(list(correct.values())))
    for number, (source, network) in enumerate(targets.items()):
        examples, _ = attack_every_image(
            transfer, network, dataset, budget, seed, lambda done, total: None, network=network, steps=steps
        )
        own = score_examples(network, examples, labels, dataset.images, budget=budget, made_for=network.digest)
        row = {
            name: own if name == source else _score(target, examples, labels, own, correct[name])
            for name, target in targets.items()
        }
        rates.append([row[name].robust_accuracy.as_json() for name in targets])
        _add_row(found, source, row, steps, stage, dataset)
        if len(chosen):
            _add_gallery(found, network, dataset, chosen, examples[chosen], source)
        progress(number + 1, len(targets))
    found.content["transfers"].append(
        {
            "id": stage,
            "networks": list(targets),
            "budget": budget.as_json(),
            "attack": _attack_text(steps),
            "n": len(dataset),
            "note": dataset.note,
            "rates": rates,
        }
    )
    return found


def _score(
    target: NetworkTarget, examples: np.ndarray, labels: np.ndarray, own: ExamplesScore, clean_correct: np.ndarray
) -> ExamplesScore:
    """Another network on examples that `own` has verified, without a second pass over the clean images."""
    predictions = evaluate(target, examples, labels).predictions
    return replace(
        own,
        model_digest=target.digest,
        clean_correct=clean_correct,
        adversarial_correct=predictions == labels,
        predictions=predictions,
    )


def _attack_text(steps: int) -> str:
    return f"PGD-{steps} with momentum 1"


def _add_row(
    found: Matrix, source: str, row: Mapping[str, ExamplesScore], steps: int, stage: str, dataset: Dataset
) -> None:
    """The measurements of every network but the source: its own examples are no transfer."""
    for name, score in row.items():
        if name == source:
            continue
        collected = Collected(stage=stage, model=name)
        protocol = f"{_attack_text(steps)} examples made for {source}; {dataset.note or 'all images'}"
        collected.rate(
            f"from/{source}",
            METRIC,
            score.robust_accuracy,
            protocol,
            budget=score.budget,
            trust=judge_examples(score),
        )
        found.content["measurements"] += collected.measurements
        found.content["values"] |= collected.values


def _add_gallery(
    found: Matrix, network: NetworkTarget, dataset: Dataset, chosen: np.ndarray, x_adv: np.ndarray, name: str
) -> None:
    number = len(found.content["galleries"])
    captions, arrays = gallery(network, dataset, chosen, x_adv, name, "examples made for this network")
    found.content["galleries"].append(captions)
    found.arrays |= {f"{key}-{number}": value for key, value in arrays.items()}
