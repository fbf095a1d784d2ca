"""The detectors of the model scan, one row each: what is measured, and which direction is suspicious."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from secure_ai.blue.backdoors.inversion import EVERY, FORMS, Inverted, every_class, every_pair, invert, pairs
from secure_ai.blue.backdoors.margin import max_margins
from secure_ai.models.target.target import NetworkTarget


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One detector's measurement: positive numbers, one a class or one a pair of classes.

    Attributes:
        values: (V,) float64.
        inverted: the changes behind them, where there are any.
        searches: (V,) which of the changes each value is of; -1: none could be searched for.
    """

    values: np.ndarray
    inverted: Inverted | None = None
    searches: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Detector:
    """A row of the scan.

    Attributes:
        measure: (target, images, labels, seed) -> Found; without data it is given empty arrays.
        direction: +1 where large values are suspicious, -1 where small ones are.
        paired: one value for each pair of `pairs(K)`, else one a class.
    """

    measure: Callable[[NetworkTarget, np.ndarray, np.ndarray, int], Found]
    direction: int
    needs_data: bool
    paired: bool = False


def _margin(target: NetworkTarget, images: np.ndarray, labels: np.ndarray, seed: int) -> Found:
    return Found(max_margins(target, seed))


def _inversion(name: str) -> Callable[[NetworkTarget, np.ndarray, np.ndarray, int], Found]:
    def measure(target: NetworkTarget, images: np.ndarray, labels: np.ndarray, seed: int) -> Found:
        form, classes = FORMS[name], target.num_classes
        inverted = invert(target, images, every_class(labels, classes, form, seed), form, seed)
        return of_classes(inverted)

    return measure


def _pairs(target: NetworkTarget, images: np.ndarray, labels: np.ndarray, seed: int) -> Found:
    form, classes = FORMS["pair"], target.num_classes
    searches, possible = every_pair(labels, classes, form, seed)
    return of_pairs(invert(target, images, searches, form, seed), possible, classes)


def of_classes(inverted: Inverted) -> Found:
    """One value a class."""
    return Found(costs(inverted), inverted, np.arange(len(inverted.sizes)))


def of_pairs(inverted: Inverted, possible: np.ndarray, classes: int) -> Found:
    """One value a pair. A pair whose source has no image gets the median of the others, which says nothing of it."""
    count = len(pairs(classes)[0])
    found = costs(inverted)
    values, searches = np.full(count, np.median(found)), np.full(count, -1)
    values[possible], searches[possible] = found, np.arange(len(possible))
    return Found(values, inverted, searches)


def costs(inverted: Inverted) -> np.ndarray:
    """What the change of each search costs, (G,). One that never worked counts as dear as the dearest that did.

    The cost of a last attempt says nothing: as the price falls until the search ends, it may be next to zero.
    """
    dearest = inverted.sizes[inverted.reached].max(initial=0.0)
    if not dearest:
        return np.ones(len(inverted.sizes))
    return np.where(inverted.reached, inverted.sizes, dearest)


DETECTORS: Mapping[str, Detector] = {
    "margin": Detector(_margin, +1, needs_data=False),
    "mask": Detector(_inversion("mask"), -1, needs_data=True),
    "additive": Detector(_inversion("additive"), -1, needs_data=True),
    "pair": Detector(_pairs, -1, needs_data=True, paired=True),
}


def place(name: str, index: int, classes: int) -> tuple[int, int]:
    """Source and target of a detector's value; the source is EVERY where it is of a class."""
    if not DETECTORS[name].paired:
        return EVERY, index
    sources, targets = pairs(classes)
    return int(sources[index]), int(targets[index])


def detect(target: NetworkTarget, images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Found]:
    """Every detector that the data allow, by name; no images (0, C, H, W): those that need none."""
    rows = {name: row for name, row in DETECTORS.items() if len(images) or not row.needs_data}
    return {name: row.measure(target, images, labels, seed) for name, row in rows.items()}
