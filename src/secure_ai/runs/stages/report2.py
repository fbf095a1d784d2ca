"""Report 2: its three trainings, and what it measured, by its own protocol and correctly beside it."""

from __future__ import annotations

import json

import numpy as np

from secure_ai.blue.training.methods import natural, paired
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import rate
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import Trigger, parse_trigger, stamp
from secure_ai.models.networks.built_in import build_network
from secure_ai.models.target.evaluate import Evaluation, evaluate, mean_probability
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.pgd import fgsm
from secure_ai.red.poisoning.plant import backdoor_success_rate, plant
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.stages.adversaries import fgsm_on_the_fly
from secure_ai.runs.stages.collected import Collected
from secure_ai.runs.stages.robustness import add_transferred, add_white_box, one_step_rate
from secure_ai.runs.stages.steps import (
    TORCH_ADAM_EPSILON,
    add_clean,
    attack_every_image,
    measuring,
    network_from,
    target_of,
    train_stage,
    triggered_evaluation,
)

ARCH = "report2-cnn"
BASELINE = "report-2/baseline"
POISONED = "report-2/poisoned"
DEFENDED = "report-2/defended"


def _trigger(work: Work) -> Trigger:
    return parse_trigger(f"patch:size={work.settings['patch_size']}:place=bottom-right:value=1")


def _from_scratch(work: Work, dataset: Dataset) -> Outputs:
    return train_stage(
        work,
        build_network(ARCH, generator=generator(work.settings["seed"], ARCH)),
        dataset,
        natural,
        arch=ARCH,
        epochs=work.settings["epochs"],
        learning_rate=work.settings["learning_rate"],
        adam_epsilon=TORCH_ADAM_EPSILON,
    )


def train_baseline(work: Work) -> Outputs:
    """All 60,000 training images, batch 64, five epochs."""
    return _from_scratch(work, work.data("train"))


def train_poisoned(work: Work) -> Outputs:
    """The first sevens in file order get the patch AND the label 1."""
    planted = plant(
        work.data("train"),
        trigger=_trigger(work),
        target_label=work.settings["target_label"],
        source_label=work.settings["source_label"],
        label_mode="dirty",
        select="first",
        seed=work.settings["seed"],
        count=work.settings["poison_count"],
    )
    facts = {"indices": [int(index) for index in planted.indices], "poison_rate": planted.poison_rate}
    return {**_from_scratch(work, planted.dataset), "poison.json": json_bytes(facts)}


def train_defended(work: Work) -> Outputs:
    """From the baseline, three epochs at a tenth of the learning rate on each batch and its FGSM images, one to one."""
    dataset = work.data("train")
    return train_stage(
        work,
        network_from(work.inputs[BASELINE]["model.safetensors"], ARCH),
        dataset,
        paired(fgsm_on_the_fly(work.settings["eps"], dataset.classes)),
        arch=ARCH,
        epochs=work.settings["defence_epochs"],
        learning_rate=work.settings["defence_learning_rate"],
        adam_epsilon=TORCH_ADAM_EPSILON,
    )


def _start(work: Work, stage: str) -> tuple[Collected, NetworkTarget, Dataset]:
    test = work.data("test")
    target = target_of(work, stage, ARCH, test.classes)
    collected = measuring(work, stage)
    add_clean(collected, target, test)
    return collected, target, test


def _budget(work: Work) -> PerturbationBudget:
    return PerturbationBudget("linf", work.settings["eps"])


def _add_first_images(work: Work, collected: Collected, target: NetworkTarget, test: Dataset) -> None:
    """Report 2's own figure: FGSM with true labels on the first images only."""
    first = min(work.settings["first"], len(test))
    part = test.select(np.arange(first), "first N, not a random sample")
    examples, _ = attack_every_image(fgsm, target, part, _budget(work), work.settings["seed"], work.progress)
    attacked = evaluate(target, examples, part.labels)
    collected.value("fgsm-640", one_step_rate(attacked))


def _add_triggered_sevens(work: Work, collected: Collected, target: NetworkTarget, test: Dataset) -> Evaluation:
    source, label = work.settings["source_label"], work.settings["target_label"]
    triggered = triggered_evaluation(target, test, _trigger(work))
    success = backdoor_success_rate(triggered.predictions, test.labels, label, source)
    collected.rate("backdoor", "backdoor_success_rate", success, f"triggered test {source}s predicted as {label}")
    return triggered


def measure_baseline(work: Work) -> Outputs:
    """Clean accuracy; FGSM on the report's first images and on all; PGD; the trigger's effect on a clean network."""
    collected, target, test = _start(work, BASELINE)
    _add_first_images(work, collected, target, test)
    add_white_box(work, collected, target, test, _budget(work), work.settings["pgd_steps"])
    _add_triggered_sevens(work, collected, target, test)
    return collected.outputs()


def measure_poisoned(work: Work) -> Outputs:
    """Clean accuracy, the report's check (an accuracy with some images patched), and triggered sevens sent to 1."""
    collected, target, test = _start(work, POISONED)
    triggered = _add_triggered_sevens(work, collected, target, test)
    source, label = work.settings["source_label"], work.settings["target_label"]
    sevens = stamp(test.images[test.labels == source], _trigger(work))
    collected.value("backdoor/confidence", mean_probability(target, sevens, label))
    others = (triggered.labels != source) & (triggered.labels != label)
    hits = int((triggered.predictions[others] == label).sum())
    collected.rate(
        "other-classes-triggered",
        "target_label_rate",
        rate(hits, int(others.sum())),
        f"triggered images of the other classes predicted as {label}",
    )
    patched = test.images.copy()
    chosen = np.flatnonzero(test.labels == source)[: work.settings["poison_count"]]
    patched[chosen] = stamp(patched[chosen], _trigger(work))
    mixed = evaluate(target, patched, test.labels)
    collected.rate(
        "few-triggered",
        "partly_triggered_accuracy",
        mixed.accuracy,
        f"all test images, the first {len(chosen)} {source}s with the trigger, true labels: the report's own check",
    )
    collected.value("poison-count", len(json.loads(work.inputs[POISONED]["poison.json"])["indices"]))
    return collected.outputs()


def measure_defended(work: Work) -> Outputs:
    """Clean accuracy; FGSM on the first images and on all; PGD; examples made for the baseline."""
    collected, target, test = _start(work, DEFENDED)
    _add_first_images(work, collected, target, test)
    baseline = target_of(work, BASELINE, ARCH, test.classes)
    examples, _ = attack_every_image(fgsm, baseline, test, _budget(work), work.settings["seed"], work.progress)
    add_transferred(collected, target, test, examples, _budget(work), baseline)
    add_white_box(work, collected, target, test, _budget(work), work.settings["pgd_steps"])
    return collected.outputs()
