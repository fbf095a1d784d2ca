"""The pictures of a run: which file shows which values. Drawn once for the same values, then taken from the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from secure_ai.core.results import Rate
from secure_ai.report.render import png as plots
from secure_ai.report.render.text import trust_word
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.store import Store, key_of

Values = Mapping[str, Any]

# name of the file -> (what it shows, title)
CONFUSIONS = {
    "baseline_confusion": ("report-1/baseline/clean/confusion", "Baseline, clean test images"),
    "baseline_fgsm_confusion": ("report-1/baseline/fgsm-predicted/confusion", "Baseline under FGSM"),
    "advtrained_clean_confusion": ("report-1/defended-p/clean/confusion", "Defended (version P), clean test images"),
    "advtrained_fgsm_confusion": (
        "report-1/defended-p/transferred/confusion",
        "Defended (version P) on the baseline's FGSM examples",
    ),
    "poison_confusion": ("report-1/poisoned/clean/confusion", "Poisoned, clean test images"),
    "poison_clean_confusion": ("report-1/poisoned/clean/confusion", "Poisoned, clean test images"),
    "report2_baseline_confusion": ("report-2/baseline/clean/confusion", "Report 2 baseline, clean test images"),
    "report2_poisoned_confusion": ("report-2/poisoned/clean/confusion", "Report 2 poisoned, clean test images"),
}

CURVE = "subject/curve"

HISTORIES = {
    "baseline_accuracy": ("report-1/baseline", "accuracy", "Baseline: accuracy by epoch"),
    "baseline_loss": ("report-1/baseline", "loss", "Baseline: loss by epoch"),
    "report2_baseline_accuracy": ("report-2/baseline", "accuracy", "Report 2 baseline: accuracy by epoch"),
}

BARS = {
    "fgsm_accuracy_comparison": (
        "Accuracy of report 1's networks, clean and attacked",
        {
            "baseline\nclean": "report-1/baseline/clean",
            "baseline\nFGSM": "report-1/baseline/fgsm",
            "P: clean": "report-1/defended-p/clean",
            "P: examples\nof baseline": "report-1/defended-p/transferred",
            "P: own\nFGSM": "report-1/defended-p/fgsm",
            "P: own\nPGD": "report-1/defended-p/pgd",
            "L: own\nFGSM": "report-1/defended-l/fgsm",
            "L: own\nPGD": "report-1/defended-l/pgd",
        },
    ),
    "poison_target_effect": (
        "What the trigger does in report 1's poisoning, and in a backdoor that works",
        {
            "sevens\nclean": "report-1/poisoned/sevens-clean",
            "sevens with\ntrigger": "report-1/poisoned/sevens-triggered",
            "others sent\nto 7": "report-1/poisoned/backdoor",
            "the same,\nclean network": "report-1/baseline/backdoor",
            "BadNets\n(seen patch)": "report-1/badnets/backdoor",
            "BadNets' patch,\nclean network": "report-1/baseline/backdoor-badnets",
        },
    ),
    "report2_fgsm_comparison": (
        "Accuracy of report 2's networks, clean and attacked",
        {
            "baseline\nclean": "report-2/baseline/clean",
            "baseline\nFGSM": "report-2/baseline/fgsm",
            "defended\nclean": "report-2/defended/clean",
            "defended\nFGSM": "report-2/defended/fgsm",
            "defended\nPGD": "report-2/defended/pgd",
        },
    ),
}


@cache
def drawing_code() -> str:
    """SHA-256 of the code that draws: part of every picture's key."""
    return hashlib.sha256((resources.files("secure_ai") / "report" / "render" / "png.py").read_bytes()).hexdigest()


def pictures(values: Values, histories: Mapping[str, Mapping[str, list[float]]], store: Store) -> dict[str, bytes]:
    """PNG bytes by file name (without ending); a picture whose values were not measured is left out.

    Args:
        values: the run's flat values.
        histories: training curves by stage.
        store: where a picture drawn before is found again.
    """
    drawn: dict[str, bytes] = {}

    def draw(name: str, function: Callable[..., bytes], *arguments: Any) -> None:
        key = key_of({"picture": function.__name__, "code": drawing_code(), "arguments": json_bytes(arguments).hex()})
        record = store.find(key) or store.put(f"picture/{name}", key, {"png": function(*arguments)}, 0.0)
        drawn[name] = store.blob(record.outputs["png"])

    for name, (identifier, title) in CONFUSIONS.items():
        if identifier in values:
            draw(name, plots.confusion_png, values[identifier], title)
    for name, (stage, quantity, title) in HISTORIES.items():
        if stage in histories:
            curves = {"training": histories[stage][quantity]}
            if histories[stage][f"validation_{quantity}"]:
                curves["validation"] = histories[stage][f"validation_{quantity}"]
            draw(name, plots.history_png, curves, title, quantity)
    for name, (title, bars) in BARS.items():
        known = {label: values[identifier] for label, identifier in bars.items() if identifier in values}
        if known:
            draw(name, _bars, known, title, "share of images")
    if CURVE in values:
        points = [(point["eps"], point["accuracy"]) for point in values[CURVE]]
        title = "Accuracy of the network as the budget grows"
        draw("security_curve", _curve, {"worst case of the suite": points}, title, "eps", "accuracy")
    return drawn


def _rate(raw: Mapping[str, Any]) -> Rate:
    return Rate(raw["value"], raw["ci_low"], raw["ci_high"], raw["n"], raw["successes"], raw.get("reason", ""))


def _bars(bars: Mapping[str, Mapping[str, Any]], title: str, ylabel: str) -> bytes:
    words = {name: trust_word((raw.get("trust") or {}).get("verdict"), raw["n"]) for name, raw in bars.items()}
    return plots.bars_png({name: (_rate(raw), words[name]) for name, raw in bars.items()}, title, ylabel)


def _curve(curves: Mapping[str, list[tuple[float, Mapping[str, Any]]]], title: str, xlabel: str, ylabel: str) -> bytes:
    typed = {name: [(place, _rate(raw)) for place, raw in points] for name, points in curves.items()}
    return plots.curve_png(typed, title, xlabel, ylabel)
