"""What report 1 measured, by its own protocol and correctly beside it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import rate
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import Trigger
from secure_ai.models.target.evaluate import Evaluation, evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.pgd import fgsm
from secure_ai.red.poisoning.plant import backdoor_success_rate
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.stages.collected import Collected
from secure_ai.runs.stages.report1_train import ARCH, BASELINE, badnets_trigger, report_trigger
from secure_ai.runs.stages.robustness import add_transferred, add_white_box, one_step_rate
from secure_ai.runs.stages.steps import (
    add_clean,
    attack_every_image,
    measuring,
    target_of,
    triggered_evaluation,
)


def report_fgsm(work: Work, target: NetworkTarget, test: Dataset, labels: str) -> tuple[np.ndarray, float]:
    """FGSM examples of every test image on `target`, as report 1 made them (`labels="predicted"`)."""
    budget = PerturbationBudget("linf", work.settings["eps"])
    return attack_every_image(fgsm, target, test, budget, work.settings["seed"], work.progress, labels=labels)


def measure_baseline(work: Work) -> Outputs:
    """Clean accuracy, FGSM with predicted labels (the report's) and true ones, PGD, and the trigger's effect on it."""
    test = work.data("test")
    target = target_of(work, BASELINE, ARCH, test.classes)
    budget = PerturbationBudget("linf", work.settings["eps"])
    collected = measuring(work, BASELINE)
    add_clean(collected, target, test)
    examples, seconds = report_fgsm(work, target, test, "predicted")
    attacked = evaluate(target, examples, test.labels)
    collected.value("fgsm-predicted", one_step_rate(attacked))
    collected.value("fgsm-predicted/loss", attacked.loss)
    collected.value("fgsm-predicted/seconds", seconds)
    collected.value("fgsm-predicted/confusion", attacked.confusion)
    add_white_box(work, collected, target, test, budget, work.settings["pgd_steps"])
    _add_backdoor(work, collected, target, test, report_trigger(work))
    _add_backdoor(work, collected, target, test, badnets_trigger(work), "backdoor-badnets")
    return collected.outputs()


def _add_backdoor(
    work: Work, collected: Collected, target: NetworkTarget, test: Dataset, trigger: Trigger, name: str = "backdoor"
) -> Evaluation:
    label = work.settings["target_label"]
    triggered = triggered_evaluation(target, test, trigger)
    success = backdoor_success_rate(triggered.predictions, test.labels, label)
    protocol = f"test images of every class but {label}, with {trigger.text}, predicted as {label}"
    collected.rate(name, "backdoor_success_rate", success, protocol)
    return triggered


def measure_defended(work: Work, stage: str) -> Outputs:
    """Clean accuracy, then examples made for the baseline, white-box FGSM and white-box PGD."""
    test = work.data("test")
    budget = PerturbationBudget("linf", work.settings["eps"])
    baseline = target_of(work, BASELINE, ARCH, test.classes)
    target = target_of(work, stage, ARCH, test.classes)
    collected = measuring(work, stage)
    add_clean(collected, target, test)
    examples, _ = report_fgsm(work, baseline, test, "predicted")
    add_transferred(collected, target, test, examples, budget, baseline)
    transferred = evaluate(target, examples, test.labels)
    collected.value("transferred/loss", transferred.loss)
    collected.value("transferred/confusion", transferred.confusion)
    own, seconds = report_fgsm(work, target, test, "predicted")
    attacked = evaluate(target, own, test.labels)
    collected.value("fgsm-predicted", one_step_rate(attacked))
    collected.value("fgsm-predicted/loss", attacked.loss)
    collected.value("fgsm-predicted/confusion", attacked.confusion)
    collected.value("fgsm-predicted/seconds", seconds)
    add_white_box(work, collected, target, test, budget, work.settings["pgd_steps"])
    return collected.outputs()


def measure_defended_published(work: Work) -> Outputs:
    """Version P."""
    return measure_defended(work, "report-1/defended-p")


def measure_defended_listing(work: Work) -> Outputs:
    """Version L."""
    return measure_defended(work, "report-1/defended-l")


def measure_poisoned(work: Work, stage: str, trigger: Trigger) -> Outputs:
    """Report 1's two figures on the target class, and the backdoor success rate by the honest denominator."""
    test, label = work.data("test"), work.settings["target_label"]
    target = target_of(work, stage, ARCH, test.classes)
    collected = measuring(work, stage)
    clean = add_clean(collected, target, test)
    unpatched = backdoor_success_rate(clean.predictions, test.labels, label)
    collected.rate("sevens-clean", "clean_accuracy", clean.accuracy_of(label), f"unmodified test {label}s")
    collected.rate(
        "no-trigger", "target_label_rate", unpatched, f"unmodified images of other classes predicted as {label}"
    )
    triggered = _add_backdoor(work, collected, target, test, trigger)
    chosen = test.labels == label
    hits = int((triggered.predictions[chosen] == label).sum())
    collected.rate(
        "sevens-triggered",
        "triggered_target_class_accuracy",
        rate(hits, int(chosen.sum())),
        f"test {label}s with the trigger, still predicted as {label}: not backdoor success",
    )
    only = test.select(np.flatnonzero(chosen), f"only class {label}")
    collected.value("sevens-triggered/loss", triggered_evaluation(target, only, trigger).loss)
    poison: dict[str, Any] = json.loads(work.inputs[stage]["poison.json"])
    collected.value("poison-count", len(poison["indices"]))
    collected.value("poison-rate", poison["poison_rate"])
    collected.values["report-1/data/train-sevens"] = poison["of_target_class"]
    return collected.outputs()


def measure_clean_label(work: Work) -> Outputs:
    """Report 1's poisoning."""
    return measure_poisoned(work, "report-1/poisoned", report_trigger(work))


def measure_badnets(work: Work) -> Outputs:
    """The backdoor that works."""
    return measure_poisoned(work, "report-1/badnets", badnets_trigger(work))
