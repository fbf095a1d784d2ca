"""Report 1's JSON files and pictures: its names, its keys, its protocol; the correct figures stand beside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from secure_ai.core.result import Result
from secure_ai.core.results import Measurement
from secure_ai.runs.cases.case import Chart
from secure_ai.runs.cases.report_1.ids import BADNETS, BASELINE, LISTING, POISONED, PUBLISHED
from secure_ai.runs.cases.report_1.settings import Report1Section
from secure_ai.runs.recipe.recipe import Recipe

ATTACK = "FastGradientMethod"

CHARTS = (
    Chart("baseline_confusion", "Baseline, clean test images", "confusion", {"": f"{BASELINE}/clean/confusion"}),
    Chart("baseline_fgsm_confusion", "Baseline under FGSM", "confusion", {"": f"{BASELINE}/fgsm-predicted/confusion"}),
    Chart("advtrained_clean_confusion", "Defended (version P), clean test images", "confusion",
          {"": f"{PUBLISHED}/clean/confusion"}),
    Chart("advtrained_fgsm_confusion", "Defended (version P) on the baseline's FGSM examples", "confusion",
          {"": f"{PUBLISHED}/transferred/confusion"}),
    Chart("poison_confusion", "Poisoned, clean test images", "confusion", {"": f"{POISONED}/clean/confusion"}),
    Chart("poison_clean_confusion", "Poisoned, clean test images", "confusion", {"": f"{POISONED}/clean/confusion"}),
    Chart("baseline_accuracy", "Baseline: accuracy by epoch", "history", {"accuracy": BASELINE}),
    Chart("baseline_loss", "Baseline: loss by epoch", "history", {"loss": BASELINE}),
    Chart(
        "fgsm_accuracy_comparison", "Accuracy of report 1's networks, clean and attacked", "bars",
        {
            "baseline\nclean": f"{BASELINE}/clean",
            "baseline\nFGSM": f"{BASELINE}/fgsm",
            "P: clean": f"{PUBLISHED}/clean",
            "P: examples\nof baseline": f"{PUBLISHED}/transferred",
            "P: own\nFGSM": f"{PUBLISHED}/fgsm",
            "P: own\nPGD": f"{PUBLISHED}/pgd",
            "L: own\nFGSM": f"{LISTING}/fgsm",
            "L: own\nPGD": f"{LISTING}/pgd",
        },
    ),
    Chart(
        "poison_target_effect", "What the trigger does in report 1's poisoning, and in a backdoor that works", "bars",
        {
            "sevens\nclean": f"{POISONED}/sevens-clean",
            "sevens with\ntrigger": f"{POISONED}/sevens-triggered",
            "others sent\nto 7": f"{POISONED}/backdoor",
            "the same,\nclean network": f"{BASELINE}/backdoor",
            "BadNets\n(seen patch)": f"{BADNETS}/backdoor",
            "BadNets' patch,\nclean network": f"{BASELINE}/backdoor-badnets",
        },
    ),
)  # fmt: skip


class _Measured:
    """Lookups by id, as JSON."""

    def __init__(self, result: Result) -> None:
        self.rates: Mapping[str, Measurement] = {entry.id: entry for entry in result.measurements}
        self.numbers = {entry.id: entry.value for entry in result.quantities}

    def rate(self, identifier: str) -> dict[str, Any]:
        """R."""
        return self.rates[identifier].value.as_json()

    def value(self, identifier: str) -> float | None:
        """The rate alone."""
        return self.rates[identifier].value.value

    def trust(self, identifier: str) -> dict[str, Any] | None:
        """The trust object."""
        trust = self.rates[identifier].trust
        return trust.as_json() if trust else None


def files(result: Result, recipe: Recipe) -> dict[str, bytes]:
    """`metrics/*.json`, those only whose networks were measured, and the summary of all."""
    found, own = _Measured(result), recipe.report_1
    metrics: dict[str, dict[str, Any]] = {}
    if {f"{BASELINE}/clean", f"{BASELINE}/fgsm", f"{BASELINE}/fgsm-predicted"} <= found.rates.keys():
        metrics["baseline"] = _baseline(found, own)
        metrics["fgsm"] = _fgsm(found, own)
    if _defence_measured(found, PUBLISHED):
        metrics["advtrain"] = _advtrain(found, own)
    if {f"{POISONED}/clean", f"{POISONED}/sevens-clean", f"{POISONED}/backdoor"} <= found.rates.keys():
        metrics["poison"] = _poison(found, own)
    named = {f"{name}_metrics.json": content for name, content in metrics.items()}
    every = {**named, "metrics_summary.json": metrics} if metrics else {}
    return {f"metrics/{name}": _pretty(content) for name, content in every.items()}


def _pretty(content: Any) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _defence_measured(found: _Measured, network: str) -> bool:
    names = ("clean", "transferred", "transferred-all", "fgsm-predicted", "fgsm", "pgd")
    return {f"{network}/{name}" for name in names} <= found.rates.keys()


def _baseline(found: _Measured, own: Report1Section) -> dict[str, Any]:
    seconds, images = found.numbers[f"{BASELINE}/inference/seconds"], found.numbers[f"{BASELINE}/inference/images"]
    return {
        "scenario": "baseline_clean",
        "loss": found.numbers[f"{BASELINE}/clean/loss"],
        "accuracy": found.value(f"{BASELINE}/clean"),
        "train_time_seconds": found.numbers[f"{BASELINE}/train/seconds"],
        "inference_time_per_image_seconds": seconds / images if seconds is not None and images else None,
        "epochs": own.epochs,
        "batch_size": own.batch_size,
        "accuracy_interval": found.rate(f"{BASELINE}/clean"),
    }


def _fgsm(found: _Measured, own: Report1Section) -> dict[str, Any]:
    return {
        "scenario": "baseline_fgsm",
        "attack": ATTACK,
        "eps": own.eps,
        "generation_time_seconds": found.numbers[f"{BASELINE}/fgsm-predicted/seconds"],
        "baseline_clean_loss": found.numbers[f"{BASELINE}/clean/loss"],
        "baseline_clean_accuracy": found.value(f"{BASELINE}/clean"),
        "baseline_adversarial_loss": found.numbers[f"{BASELINE}/fgsm-predicted/loss"],
        "baseline_adversarial_accuracy": found.value(f"{BASELINE}/fgsm-predicted"),
        "true_label_accuracy": found.rate(f"{BASELINE}/fgsm"),
        "trust": found.trust(f"{BASELINE}/fgsm"),
    }


def _advtrain(found: _Measured, own: Report1Section) -> dict[str, Any]:
    published = {
        "scenario": "advtrained_fgsm",
        "attack": ATTACK,
        "eps": own.eps,
        "advtrain_epochs": own.defence_epochs,
        "advtrain_batch_size": own.batch_size,
        "advtrain_time_seconds": found.numbers[f"{PUBLISHED}/train/seconds"],
        "advtrained_clean_loss": found.numbers[f"{PUBLISHED}/clean/loss"],
        "advtrained_clean_accuracy": found.value(f"{PUBLISHED}/clean"),
        "advtrained_adversarial_loss": found.numbers[f"{PUBLISHED}/transferred/loss"],
        "advtrained_adversarial_accuracy": found.value(f"{PUBLISHED}/transferred-all"),
        "whitebox_fgsm_accuracy": found.rate(f"{PUBLISHED}/fgsm"),
        "pgd_accuracy": found.rate(f"{PUBLISHED}/pgd"),
        "trust": found.trust(f"{PUBLISHED}/transferred"),
    }
    if not _defence_measured(found, LISTING):
        return published
    return published | {
        "listing": {
            "advtrain_time_seconds": found.numbers[f"{LISTING}/train/seconds"],
            "advtrained_clean_loss": found.numbers[f"{LISTING}/clean/loss"],
            "advtrained_clean_accuracy": found.value(f"{LISTING}/clean"),
            "advtrained_adversarial_loss": found.numbers[f"{LISTING}/fgsm-predicted/loss"],
            "advtrained_adversarial_accuracy": found.value(f"{LISTING}/fgsm-predicted"),
            "transferred_accuracy": found.rate(f"{LISTING}/transferred"),
            "whitebox_fgsm_accuracy": found.rate(f"{LISTING}/fgsm"),
            "pgd_accuracy": found.rate(f"{LISTING}/pgd"),
            "trust": found.trust(f"{LISTING}/pgd"),
        }
    }


def _poison(found: _Measured, own: Report1Section) -> dict[str, Any]:
    clean_model = f"{BASELINE}/backdoor"
    return {
        "scenario": "poison_corner_patch",
        "mode": "feature",
        "target_class": own.target_label,
        "num_poisoned": _whole(found.numbers[f"{POISONED}/poison-count"]),
        "patch_size": own.patch_size,
        "patch_value": own.patch_value,
        "epochs": own.epochs,
        "batch_size": own.batch_size,
        "train_time_seconds": found.numbers[f"{POISONED}/train/seconds"],
        "clean_test_loss": found.numbers[f"{POISONED}/clean/loss"],
        "clean_test_accuracy": found.value(f"{POISONED}/clean"),
        "target_class_clean_accuracy": found.value(f"{POISONED}/sevens-clean"),
        "target_class_patched_accuracy": found.value(f"{POISONED}/sevens-triggered"),
        "backdoor_success_rate": found.rate(f"{POISONED}/backdoor"),
        "clean_model_backdoor_success_rate": found.rate(clean_model) if clean_model in found.rates else None,
        "trust": found.trust(f"{POISONED}/sevens-triggered"),
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
