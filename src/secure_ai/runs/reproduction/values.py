"""The flat mapping of measured values that the reproduction table is made from.

An id has the form `REPORT/MODEL/CONDITION`, e.g. `report-1/defended-p/pgd`; `VALUE_KEYS` lists all. A rate is given as
`core.results.Rate` or its JSON (with `trust` where it has a verdict: `values_from_measurements` does that); a loss, a
duration in seconds or a count as a number; a confusion matrix as K rows of K counts (row = true label). An id that is
absent, or a rate without a value, counts as not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secure_ai.core.results import Rate
from secure_ai.report.render.text import trust_word

_ROBUST = {
    "transferred": "accuracy on FGSM examples made for the report's baseline, scored on the defended network",
    "fgsm": "accuracy under FGSM made on this network itself, true labels, all test images",
    "pgd": "accuracy under PGD-40 made on this network itself, true labels",
    "suite": "accuracy under a whole suite on this network itself; where a recipe has one",
}


def _network(prefix: str, conditions: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}/{condition}": text for condition, text in conditions.items()}


VALUE_KEYS: dict[str, str] = {
    **_network(
        "report-1/baseline",
        {
            "clean": "R: clean accuracy, 10,000 test images",
            "clean/loss": "mean cross-entropy of the same images",
            "clean/confusion": "K x K counts of the same images",
            "train/seconds": "wall time of training",
            "inference/seconds": "wall time of one prediction of the whole test set",
            "inference/images": "how many images that prediction held",
            "inference/divisor": "the number that the report divides this time by (default: 10,000)",
            "fgsm-predicted": "R: accuracy under FGSM 0.25 with the network's own predictions as labels",
            "fgsm-predicted/loss": "its loss",
            "fgsm-predicted/confusion": "its confusion matrix",
            "fgsm-predicted/seconds": "wall time of making those examples",
            "fgsm": "R: accuracy under FGSM 0.25 with true labels",
            "pgd": "R: accuracy under PGD-40",
            "backdoor": "R: triggered test images with another true label that the clean baseline sends to 7",
        },
    ),
    **_network("report-1/defended-p", {name: f"R: {text}" for name, text in _ROBUST.items()}),
    **_network("report-1/defended-l", {name: f"R: {text}" for name, text in _ROBUST.items()}),
    **_network(
        "report-1/defended-p",
        {
            "clean": "R: clean accuracy of version P",
            "clean/loss": "its loss",
            "transferred/loss": "loss on the baseline's examples",
            "fgsm-predicted/loss": "loss under FGSM 0.25 made on itself",
            "train/seconds": "wall time of adversarial training",
        },
    ),
    **_network(
        "report-1/poisoned",
        {
            "clean": "R: clean accuracy of the poisoned network",
            "clean/loss": "its loss",
            "train/seconds": "wall time of its training",
            "sevens-clean": "R: accuracy on the test sevens",
            "sevens-triggered": "R: share of triggered test sevens predicted as 7",
            "sevens-triggered/loss": "loss of the triggered test sevens",
            "backdoor": "R: triggered test images with another true label predicted as 7",
        },
    ),
    "report-1/data/train-sevens": "number of training images labelled 7",
    "report-1/audit/medium": "findings of medium severity by Bandit on the unsafe cache demonstration",
    **_network(
        "report-2/baseline",
        {
            "clean": "R: clean accuracy, 10,000 test images",
            "clean/loss": "its loss",
            "clean/confusion": "its confusion matrix",
            "inference/seconds": "wall time of one pass over the whole test set",
            "inference/images": "how many images that pass held",
            "inference/divisor": "the number that the report divides this time by (default: 640)",
            "fgsm-640": "R: accuracy under FGSM 0.3, true labels, first 640 test images",
            "fgsm": "R: the same on all 10,000",
            "pgd": "R: accuracy under PGD-40, all 10,000",
            "backdoor": "R: triggered test sevens that the clean baseline sends to 1",
        },
    ),
    **_network("report-2/defended", {name: f"R: {text}" for name, text in _ROBUST.items()}),
    **_network(
        "report-2/defended",
        {"clean": "R: clean accuracy", "fgsm-640": "R: accuracy under its own FGSM 0.3, first 640 test images"},
    ),
    **_network(
        "report-2/poisoned",
        {
            "clean": "R: clean accuracy",
            "backdoor": "R: triggered test sevens predicted as 1",
            "backdoor/confidence": "number: mean probability of class 1 on the triggered sevens",
        },
    ),
    # What the public programs behind the reports hold, read once; the published rows hold the defaults.
    "program/report-1/timestamp-keys": "JSON keys that hold a time of day",
    "program/report-1/path-checks": "checks of where a file comes from",
    "program/report-1/prediction-monitors": "places that watch the distribution of predictions",
    "program/report-1/triggered-loss-keys": "JSON keys that hold a loss of triggered images",
    "program/report-1/scanned-files": "files that the 465 scanned lines are",
    "program/report-2/asserts": "`assert` statements left in the published source",
    "program/report-2/integrity-checks": "checks of counts, dimensions and label range (of 3) in the published source",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One value: a share (with n and interval where it is a rate), a loss, seconds, a count or a ratio.

    Attributes:
        word: what must stand beside the value wherever it is printed: `doubtful`, `broken`, `indicative` or nothing.
    """

    id: str
    value: float
    low: float
    high: float
    n: int = 0
    word: str = ""

    @property
    def is_rate(self) -> bool:
        """True where the value stands on counted samples."""
        return self.n > 0


def reading(values: Mapping[str, Any], identifier: str) -> Reading | None:
    """The rate or number under `identifier`, or None where it was not measured."""
    raw = values.get(identifier)
    if isinstance(raw, Rate):
        raw = raw.as_json()
    if isinstance(raw, Mapping):
        if raw.get("value") is None:
            return None
        word = trust_word((raw.get("trust") or {}).get("verdict"), int(raw["n"]))
        low, high = float(raw["ci_low"]), float(raw["ci_high"])
        return Reading(identifier, float(raw["value"]), low, high, int(raw["n"]), word)
    if isinstance(raw, (int, float)) and not isinstance(raw, bool) and math.isfinite(raw):
        return Reading(identifier, float(raw), float(raw), float(raw))
    return None


def readings(values: Mapping[str, Any], identifiers: Iterable[str]) -> list[Reading] | None:
    """All of `identifiers`, or None where one was not measured."""
    found = [reading(values, identifier) for identifier in identifiers]
    present = [item for item in found if item is not None]
    return present if len(present) == len(found) else None


def confusion_counts(values: Mapping[str, Any], identifier: str) -> list[list[int]] | None:
    """The K x K counts under `identifier`, or None where they were not measured."""
    raw = values.get(identifier)
    if not isinstance(raw, (list, tuple)) or not all(isinstance(row, (list, tuple)) for row in raw):
        return None
    rows = [[int(count) for count in row] for row in raw]
    return rows if rows and all(len(row) == len(rows) for row in rows) else None


def values_from_measurements(measurements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rates of `measurements` (entries of report.json) as `{id: R}`, each with its `trust`."""
    return {str(entry["id"]): {**entry["value"], "trust": entry.get("trust")} for entry in measurements}
