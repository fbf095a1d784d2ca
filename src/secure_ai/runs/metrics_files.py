"""Report 1's JSON files: its names, its keys, its protocol; what it should have measured stands beside, by new keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_ai.runs.recipe.recipe import Report1Section

Values = Mapping[str, Any]
BASELINE, PUBLISHED, LISTING, POISONED = (
    f"report-1/{name}" for name in ("baseline", "defended-p", "defended-l", "poisoned")
)
ATTACK = "FastGradientMethod"


def metrics_files(values: Values, trust: Values, settings: Report1Section) -> dict[str, dict[str, Any]]:
    """The files by name, those only whose network was measured, and the summary of all.

    Args:
        values: the run's flat values.
        trust: the trust object of each measurement, by its id.
        settings: report 1's section of the recipe.
    """
    files: dict[str, dict[str, Any]] = {}
    if f"{BASELINE}/clean" in values:
        files["baseline"] = _baseline(values, settings)
        files["fgsm"] = _fgsm(values, trust, settings)
    if f"{PUBLISHED}/clean" in values:
        files["advtrain"] = _advtrain(values, trust, settings)
    if f"{POISONED}/clean" in values:
        files["poison"] = _poison(values, trust, settings)
    named = {f"{name}_metrics.json": content for name, content in files.items()}
    return {**named, "metrics_summary.json": files} if files else {}


def _value(values: Values, identifier: str) -> float:
    return float(values[identifier]["value"])


def _baseline(values: Values, settings: Report1Section) -> dict[str, Any]:
    seconds, images = values[f"{BASELINE}/inference/seconds"], values[f"{BASELINE}/inference/images"]
    return {
        "scenario": "baseline_clean",
        "loss": values[f"{BASELINE}/clean/loss"],
        "accuracy": _value(values, f"{BASELINE}/clean"),
        "train_time_seconds": values[f"{BASELINE}/train/seconds"],
        "inference_time_per_image_seconds": seconds / images,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "accuracy_interval": values[f"{BASELINE}/clean"],
    }


def _fgsm(values: Values, trust: Values, settings: Report1Section) -> dict[str, Any]:
    return {
        "scenario": "baseline_fgsm",
        "attack": ATTACK,
        "eps": settings.eps,
        "generation_time_seconds": values[f"{BASELINE}/fgsm-predicted/seconds"],
        "baseline_clean_loss": values[f"{BASELINE}/clean/loss"],
        "baseline_clean_accuracy": _value(values, f"{BASELINE}/clean"),
        "baseline_adversarial_loss": values[f"{BASELINE}/fgsm-predicted/loss"],
        "baseline_adversarial_accuracy": _value(values, f"{BASELINE}/fgsm-predicted"),
        "true_label_accuracy": values[f"{BASELINE}/fgsm"],
        "trust": trust[f"{BASELINE}/fgsm"],
    }


def _advtrain(values: Values, trust: Values, settings: Report1Section) -> dict[str, Any]:
    published = {
        "scenario": "advtrained_fgsm",
        "attack": ATTACK,
        "eps": settings.eps,
        "advtrain_epochs": settings.defence_epochs,
        "advtrain_batch_size": settings.batch_size,
        "advtrain_time_seconds": values[f"{PUBLISHED}/train/seconds"],
        "advtrained_clean_loss": values[f"{PUBLISHED}/clean/loss"],
        "advtrained_clean_accuracy": _value(values, f"{PUBLISHED}/clean"),
        "advtrained_adversarial_loss": values[f"{PUBLISHED}/transferred/loss"],
        "advtrained_adversarial_accuracy": _value(values, f"{PUBLISHED}/transferred-all"),
        "whitebox_fgsm_accuracy": values[f"{PUBLISHED}/fgsm"],
        "pgd_accuracy": values[f"{PUBLISHED}/pgd"],
        "trust": trust[f"{PUBLISHED}/transferred"],
    }
    if f"{LISTING}/clean" not in values:
        return published
    return published | {
        "listing": {
            "advtrain_time_seconds": values[f"{LISTING}/train/seconds"],
            "advtrained_clean_loss": values[f"{LISTING}/clean/loss"],
            "advtrained_clean_accuracy": _value(values, f"{LISTING}/clean"),
            "advtrained_adversarial_loss": values[f"{LISTING}/fgsm-predicted/loss"],
            "advtrained_adversarial_accuracy": _value(values, f"{LISTING}/fgsm-predicted"),
            "transferred_accuracy": values[f"{LISTING}/transferred"],
            "whitebox_fgsm_accuracy": values[f"{LISTING}/fgsm"],
            "pgd_accuracy": values[f"{LISTING}/pgd"],
            "trust": trust[f"{LISTING}/pgd"],
        }
    }


def _poison(values: Values, trust: Values, settings: Report1Section) -> dict[str, Any]:
    return {
        "scenario": "poison_corner_patch",
        "mode": "feature",
        "target_class": settings.target_label,
        "num_poisoned": values[f"{POISONED}/poison-count"],
        "patch_size": settings.patch_size,
        "patch_value": settings.patch_value,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "train_time_seconds": values[f"{POISONED}/train/seconds"],
        "clean_test_loss": values[f"{POISONED}/clean/loss"],
        "clean_test_accuracy": _value(values, f"{POISONED}/clean"),
        "target_class_clean_accuracy": _value(values, f"{POISONED}/sevens-clean"),
        "target_class_patched_accuracy": _value(values, f"{POISONED}/sevens-triggered"),
        "backdoor_success_rate": values[f"{POISONED}/backdoor"],
        "clean_model_backdoor_success_rate": values.get(f"{BASELINE}/backdoor"),
        "trust": trust[f"{POISONED}/sevens-triggered"],
    }
