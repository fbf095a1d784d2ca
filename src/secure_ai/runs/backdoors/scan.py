"""One model scanned against a fleet of clean networks: verdict, reconstructed trigger, and what it does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secure_ai.blue.backdoors.calibration import Calibrated, calibrate
from secure_ai.blue.backdoors.detectors import Found, detect
from secure_ai.blue.backdoors.judgement import ScanEvidence, ScanVerdict, decide, false_alarm_rate
from secure_ai.core.results import Rate, rate_or_reason
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.runs.backdoors.fleet import Fleet

SHOWN = 6  # images in the picture of the trigger
HELD_OUT = 2_000  # images that a reconstructed trigger is tried on, at most


@dataclass(frozen=True, slots=True, eq=False)
class Trigger:
    """The smallest change found for the suspected class, and what it does to images it was not made on.

    Attributes:
        detector: whose inversion made it.
        size: its cost: pixels of the mask, or L2.
        success: held-out images of every other class that it sends to the class.
        by_class: the same for each true class.
        clean, stamped: (M, C, H, W) float32, a few images without and with it.
    """

    detector: str
    label: int
    size: float
    success: Rate
    by_class: Mapping[int, Rate]
    clean: np.ndarray
    stamped: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What a scan found; `reasons` begins with the decisive one."""

    verdict: ScanVerdict
    reasons: tuple[str, ...]
    calibrated: Calibrated | None
    false_alarms: Rate | None
    values: Mapping[str, np.ndarray]
    trigger: Trigger | None
    fleet: Fleet | None
    accuracy: Rate | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The entry `scan` of `backdoor scan --json`."""
        found, trigger = self.calibrated, self.trigger
        return {
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "p": found and found.p,
            "statistic": found and round(found.statistic, 4),
            "detector": found and found.detector,
            "suspected_label": found and found.label,
            "false_alarm_rate": self.false_alarms and self.false_alarms.as_json(),
            "fleet": self.fleet and {
                "n": len(self.fleet.members),
                "asked": self.fleet.asked,
                "source": self.fleet.source,
                "training_images": self.fleet.training_images,
                "seconds": round(self.fleet.seconds, 2),
                "power": self.fleet.power,
            },
            "accuracy": self.accuracy and self.accuracy.as_json(),
            "values": {name: [float(f"{v:.6g}") for v in value] for name, value in self.values.items()},
            "scores": found and {name: [round(float(v), 3) for v in row] for name, row in found.scores.items()},
            "trigger": trigger and {
                "detector": trigger.detector,
                "label": trigger.label,
                "size": trigger.size,
                "success": trigger.success.as_json(),
                "success_by_class": {str(label): one.as_json() for label, one in trigger.by_class.items()},
            },
            "seconds": round(self.seconds, 2),
        }  # fmt: skip


def split_images(data: Dataset, n: int) -> tuple[Dataset, Dataset]:
    """Up to `n` images, at most half, to search on, and others to try a trigger on; `data` must be in random order."""
    positions, n = np.arange(len(data)), min(n, len(data) // 2)
    return data.select(positions[:n], f"{n} to search on"), data.select(positions[n:][:HELD_OUT], "held out")


def scan_target(
    target: NetworkTarget, search: Dataset | None, held_out: Dataset | None, fleet: Fleet | None, seed: int
) -> Scan:
    """Scan `target`.

    Args:
        search: clean images that inversion works on; None: the data-free statistic alone.
        held_out: others, that the reconstructed trigger is tried on.
        fleet: clean networks measured on `search` or on images like it; None: the verdict is `inconclusive`.
    """
    began = time.monotonic()
    if search is None:
        images, labels = np.empty((0, *target.input_shape), dtype=np.float32), np.empty(0, dtype=np.int64)
    else:
        images, labels = search.images, search.labels
    found = detect(target, images, labels, seed)
    values = {name: one.values for name, one in found.items()}
    accuracy = None if held_out is None else evaluate(target, held_out.images, held_out.labels).accuracy
    calibrated = None
    if fleet is not None and len(fleet.members) >= 2:
        calibrated = calibrate(values, fleet.values(sorted(values)))
    trigger = None
    if calibrated is not None and held_out is not None:
        trigger = reconstructed(target, found, held_out, calibrated.label)
    evidence = ScanEvidence(
        calibrated=calibrated,
        success=trigger.success if trigger else None,
        accuracy=accuracy,
        fleet_accuracies=tuple(member.accuracy for member in fleet.members) if fleet else (),
        training_images=fleet.training_images if fleet else 0,
    )
    verdict, reasons = decide(evidence)
    if fleet is not None and len(fleet.members) < fleet.asked:
        reasons = (*reasons, f"time was short: {len(fleet.members)} of {fleet.asked} control networks")
    alarms = false_alarm_rate(calibrated) if calibrated else None
    return Scan(verdict, reasons, calibrated, alarms, values, trigger, fleet, accuracy, time.monotonic() - began)


def reconstructed(target: NetworkTarget, found: Mapping[str, Found], held_out: Dataset, label: int) -> Trigger | None:
    """Of the inversions' changes for class `label` the one that succeeds most; None where no image is left."""
    others = np.flatnonzero(held_out.labels != label)
    if not len(others):
        return None
    images, labels = held_out.images[others], held_out.labels[others]
    triggers = []
    for name, one in found.items():
        if one.inverted is None:
            continue
        stamped = one.inverted.stamp(images, label)
        hits = evaluate(target, stamped, labels).predictions == label
        by_class = {
            int(k): rate_or_reason(int(hits[labels == k].sum()), int((labels == k).sum()), "")
            for k in np.unique(labels)
        }
        success = rate_or_reason(int(hits.sum()), len(hits), "no image of another class")
        shown = [int(np.flatnonzero(labels == k)[0]) for k in np.unique(labels)][:SHOWN]
        clean = images[shown] / np.float32(255) if images.dtype == np.uint8 else images[shown]
        size = float(one.values[label])
        triggers.append(Trigger(name, label, size, success, by_class, clean.astype(np.float32), stamped[shown]))
    return max(triggers, key=lambda trigger: trigger.success.successes, default=None)
