"""One model scanned against a fleet of clean networks: verdict, reconstructed trigger, and what it does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from secure_ai.blue.backdoors.calibration import Calibrated, calibrate
from secure_ai.blue.backdoors.detectors import DETECTORS, Found, detect, place
from secure_ai.blue.backdoors.inversion import EVERY, pairs
from secure_ai.blue.backdoors.judgement import ScanEvidence, ScanVerdict, decide, false_alarm_rate
from secure_ai.core.labels import class_text
from secure_ai.core.results import Rate, rate_or_reason
from secure_ai.core.trust import Check
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.runs.backdoors.fleet import Fleet, significant

SHOWN, SPREAD_OVER = 6, 200  # images in the picture of the trigger, and those that they are taken from
SEARCH = 200  # images that inversion chooses from, at most
HELD_OUT = 2_000  # images that a reconstructed trigger is tried on, at most


@dataclass(frozen=True, slots=True, eq=False)
class Trigger:
    """The smallest change found for the suspected class, and what it does to images it was not made on.

    Attributes:
        detector: whose inversion made it.
        source: the one class whose images it was made on; EVERY: all but `label`.
        size: its cost: pixels of the mask, or L2.
        success: held-out images of every other class, or of the source, that it sends to the class.
        by_class: the same for each true class.
        positions: (M,) of a few of those images, in the held-out set.
        clean, stamped: (M, C, H, W) float32, those images without and with it.
    """

    detector: str
    source: int
    label: int
    size: float
    success: Rate
    by_class: Mapping[int, Rate]
    positions: np.ndarray
    clean: np.ndarray
    stamped: np.ndarray

    def made_for(self, names: Sequence[str]) -> str:
        """The images that it was made for, for people, with the names of the classes where there are any."""
        if self.source == EVERY:
            return f"images of every class but {class_text(self.label, names)}"
        return f"images of class {class_text(self.source, names)}"


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What a scan found; `reasons` begins with the decisive one.

    Attributes:
        calibrated, suspected, trigger: None where the verdict is `inconclusive`.
        suspected: source (or EVERY) and target where the model stands out most.
        fleet: the control networks that it was compared with.
        sampled: pairs of classes in the random sample, and all; None where all pairs were searched, or none.
    """

    verdict: ScanVerdict
    reasons: tuple[str, ...]
    calibrated: Calibrated | None
    false_alarms: Rate | None
    found: Mapping[str, Found]
    suspected: tuple[int, int] | None
    trigger: Trigger | None
    fleet: Fleet | None
    accuracy: Rate | None
    seconds: float
    sampled: tuple[int, int] | None

    @property
    def values(self) -> Mapping[str, np.ndarray]:
        """What each detector measured of each class or pair."""
        return {name: one.values for name, one in self.found.items()}

    @property
    def class_scores(self) -> Mapping[str, np.ndarray]:
        """The scores (K,) of each detector by target class; of pairs the largest, 0 where no pair was searched."""
        if self.calibrated is None:
            return {}
        classes = len(self.found["margin"].values)
        targets = pairs(classes)[1]
        return {
            name: np.array([max(row[targets == k], default=0.0) for k in range(classes)])
            if DETECTORS[name].paired else row
            for name, row in self.calibrated.scores.items()
        }  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The entry `scan` of `backdoor scan --json`."""
        found, trigger = self.calibrated, self.trigger
        return {
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "p": found and found.p,
            "statistic": found and round(found.statistic, 4),
            "detector": found and found.detector,
            "suspected_label": self.suspected and self.suspected[1],
            "suspected_source": _named(self.suspected[0]) if self.suspected else None,
            "false_alarm_rate": self.false_alarms and self.false_alarms.as_json(),
            "fleet": self.fleet and self.fleet.as_json(),
            "accuracy": self.accuracy and self.accuracy.as_json(),
            "pairs": self.sampled and {"sampled": self.sampled[0], "of": self.sampled[1]},
            "values": {name: significant(value) for name, value in self.values.items()},
            "scores": found and {name: [round(float(v), 3) for v in row] for name, row in self.class_scores.items()},
            "trigger": trigger and {
                "detector": trigger.detector,
                "source": _named(trigger.source),
                "label": trigger.label,
                "size": trigger.size,
                "success": trigger.success.as_json(),
                "success_by_class": {str(label): one.as_json() for label, one in trigger.by_class.items()},
            },
            "seconds": round(self.seconds, 2),
        }  # fmt: skip


def split_images(data: Dataset, n: int = SEARCH) -> tuple[Dataset, Dataset]:
    """Up to `n` images, at most half, to search on, and others to try a trigger on; `data` must be in random order."""
    positions, n = np.arange(len(data)), min(n, len(data) // 2)
    return data.select(positions[:n], f"{n} to search on"), data.select(positions[n:][:HELD_OUT], "held out")


def _named(source: int) -> int | None:
    return None if source == EVERY else source


def scan_target(
    target: NetworkTarget, search: Dataset | None, held_out: Dataset | None, fleet: Fleet | None, seed: int,
    checks: Sequence[Check],
) -> Scan:  # fmt: skip
    """Scan `target`.

    Args:
        search: clean images that inversion works on; None: the data-free statistic alone.
        held_out: others, that the reconstructed trigger is tried on.
        fleet: clean networks measured on `search` or on images like it; None: the verdict is `inconclusive`.
        checks: of the target's preflight; none where it was not examined.
    """
    began = time.monotonic()
    if search is None:
        images, labels = np.empty((0, *target.input_shape), dtype=np.float32), np.empty(0, dtype=np.int64)
    else:
        images, labels = search.images, search.labels
    found = detect(target, images, labels, seed)
    scan = judge_found(target, found, held_out, fleet, checks)
    return replace(scan, seconds=time.monotonic() - began)


def judge_found(
    target: NetworkTarget, found: Mapping[str, Found], held_out: Dataset | None, fleet: Fleet | None,
    checks: Sequence[Check],
) -> Scan:  # fmt: skip
    """The verdict on what the detectors found."""
    inverted = [one.inverted for one in found.values() if one.inverted is not None]
    values = {name: np.array(significant(one.values)) for name, one in found.items()}
    accuracy = None if held_out is None else evaluate(target, held_out.images, held_out.labels).accuracy
    calibrated, suspected, trigger = None, None, None
    made = len(fleet.members) if fleet else 0
    if fleet is not None and fleet.members:
        fleet = fleet.comparable()
    if fleet is not None and len(fleet.members) >= 2:
        calibrated = calibrate(values, fleet.values(sorted(values)), target.num_classes)
        suspected = place(calibrated.detector, calibrated.index, target.num_classes)
        if held_out is not None:
            trigger = reconstructed(target, found, held_out, calibrated, suspected)
    evidence = ScanEvidence(
        calibrated=calibrated,
        success=trigger.success if trigger else None,
        accuracy=accuracy,
        fleet_accuracies=tuple(member.accuracy for member in fleet.members) if fleet else (),
        training_images=fleet.training_images if fleet else 0,
        gradient=next((made for made in checks if made.id == "input-gradient"), None),
        reached=sum(int(one.reached.sum()) for one in inverted) if inverted else None,
        margin=float(np.median(values["margin"])) if "margin" in values else None,
        fleet_margins=tuple(np.median(fleet.values(["margin"])["margin"], axis=1).tolist())
        if fleet and fleet.members and "margin" in values
        else (),
    )
    verdict, reasons = decide(evidence)
    if fleet is not None and fleet.dropped:
        reasons = (*reasons, f"{fleet.dropped} of {made} control networks learned far less than most: left out")
    if fleet is not None and made < fleet.asked:
        reasons = (*reasons, f"time was short: {made} of {fleet.asked} control networks")
    if verdict is ScanVerdict.INCONCLUSIVE:
        calibrated, suspected, trigger = None, None, None  # they compare what cannot be compared
    sampled = sampled_pairs(found, target.num_classes)
    if sampled:
        reasons = (*reasons, f"pairs of classes: a random sample of {sampled[0]} of {sampled[1]:,}")
    alarms = false_alarm_rate(calibrated) if calibrated else None
    return Scan(verdict, reasons, calibrated, alarms, found, suspected, trigger, fleet, accuracy, 0.0, sampled)


def sampled_pairs(found: Mapping[str, Found], classes: int) -> tuple[int, int] | None:
    """How many of how many pairs of classes were searched, where there are too many for all."""
    searched, every = len(pairs(classes)[0]), classes * (classes - 1)
    return (searched, every) if searched < every and any(DETECTORS[name].paired for name in found) else None


def reconstructed(
    target: NetworkTarget, found: Mapping[str, Found], held_out: Dataset, calibrated: Calibrated,
    suspected: tuple[int, int],
) -> Trigger | None:  # fmt: skip
    """Of the changes found for the suspected class, or pair, the one that succeeds most on other images.

    None where no image of another class, or of the source, is held out.
    """
    source, label = suspected
    own = np.flatnonzero(held_out.labels != label if source == EVERY else held_out.labels == source)
    if not len(own):
        return None
    images, labels = held_out.images[own], held_out.labels[own]
    triggers = []
    for name, one in found.items():
        index = calibrated.index if name == calibrated.detector else label
        if one.inverted is None or one.searches is None or (source != EVERY) != DETECTORS[name].paired:
            continue
        if one.searches[index] < 0:
            continue  # a pair that could not be searched
        stamped = one.inverted.stamp(images, int(one.searches[index]))
        hits = evaluate(target, stamped, labels).predictions == label
        by_class = {
            int(k): rate_or_reason(int(hits[labels == k].sum()), int((labels == k).sum()), "")
            for k in np.unique(labels)
        }
        success = rate_or_reason(int(hits.sum()), len(hits), "no image of another class")
        shown = np.array(_spread(labels))
        clean = images[shown] / np.float32(255) if images.dtype == np.uint8 else images[shown]
        size = float(one.inverted.sizes[one.searches[index]])
        triggers.append(
            Trigger(name, source, label, size, success, by_class, own[shown], clean.astype(np.float32), stamped[shown])
        )
    return max(triggers, key=lambda trigger: trigger.success.successes, default=None)


def _spread(labels: np.ndarray) -> list[int]:
    """Positions of at most SHOWN images: the first of each class in turn, then the second."""
    turns = np.array([int((labels[:place] == label).sum()) for place, label in enumerate(labels[:SPREAD_OVER])])
    return [int(place) for place in np.lexsort((labels[:SPREAD_OVER], turns))[:SHOWN]]
