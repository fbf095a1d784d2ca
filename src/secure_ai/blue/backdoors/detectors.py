"""The detectors of the model scan, one row each: what is measured of each class, and which direction is suspicious."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from secure_ai.blue.backdoors.inversion import FORMS, Inverted, invert
from secure_ai.blue.backdoors.margin import max_margins
from secure_ai.models.target.target import NetworkTarget


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One detector's measurement: a positive number a class, (K,) float64, and the changes behind it."""

    values: np.ndarray
    inverted: Inverted | None = None


@dataclass(frozen=True, slots=True)
class Detector:
    """A row of the scan.

    Attributes:
        measure: (target, images, labels, seed) -> Found; without data it is given empty arrays.
        direction: +1 where large values are suspicious, -1 where small ones are.
    """

    measure: Callable[[NetworkTarget, np.ndarray, np.ndarray, int], Found]
    direction: int
    needs_data: bool


def _margin(target: NetworkTarget, images: np.ndarray, labels: np.ndarray, seed: int) -> Found:
    return Found(max_margins(target, seed))


def _inversion(form: str) -> Callable[[NetworkTarget, np.ndarray, np.ndarray, int], Found]:
    def measure(target: NetworkTarget, images: np.ndarray, labels: np.ndarray, seed: int) -> Found:
        inverted = invert(target, images, labels, FORMS[form], seed)
        return Found(inverted.sizes, inverted)

    return measure


DETECTORS: Mapping[str, Detector] = {
    "margin": Detector(_margin, +1, needs_data=False),
    "mask": Detector(_inversion("mask"), -1, needs_data=True),
    "additive": Detector(_inversion("additive"), -1, needs_data=True),
}


def detect(target: NetworkTarget, images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Found]:
    """Every detector that the data allow, by name; no images (0, C, H, W): those that need none."""
    rows = {name: row for name, row in DETECTORS.items() if len(images) or not row.needs_data}
    return {name: row.measure(target, images, labels, seed) for name, row in rows.items()}
