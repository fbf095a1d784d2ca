"""What a detector's numbers mean beside those of clean networks: scores per class, one statistic, an exact p-value.

Each model is scored against all the others, the one under test among them: under "it is clean" all are exchangeable,
so its rank is a p-value whatever the distribution, and taking the largest of several detectors needs no correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from secure_ai.blue.backdoors.detectors import DETECTORS, place
from secure_ai.blue.backdoors.inversion import pairs
from secure_ai.core.errors import EmptyDataError, NonFiniteError, ShapeError

MAD_TO_SIGMA = 1.4826
SWEEPS = 5  # of the median polish
LEAST_PAIRS = 4  # of a class, as source and as target: from fewer its own effect cannot be told
TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """One model among clean ones.

    Attributes:
        p: (1 + clean networks at least as extreme) / (1 + clean networks).
        statistic: the largest over detectors and classes, in robust standard deviations of the clean networks'.
        detector: where it was found, and on
        index: which of its values.
        scores: (V,) of each detector, one a class or one a pair of classes.
        as_extreme: clean networks at least as extreme, each scored against the others.
        fleet: clean networks.
    """

    p: float
    statistic: float
    detector: str
    index: int
    scores: Mapping[str, np.ndarray]
    as_extreme: int
    fleet: int


def calibrate(values: Mapping[str, np.ndarray], fleet: Mapping[str, np.ndarray], classes: int) -> Calibrated:
    """Where a model stands among clean ones.

    Args:
        values: (V,) of each detector, of the model under test.
        fleet: (F, V) of each of the same detectors, F >= 2.
        classes: of the model.

    Raises:
        EmptyDataError: fewer than two clean networks.
        ShapeError: other detectors or classes than the fleet's.
        NonFiniteError: a value that is not finite; compared with others it would count as the most extreme.
    """
    sizes = {name: rows.shape for name, rows in fleet.items()}
    if set(values) != set(fleet) or any(rows.shape[1:] != values[name].shape for name, rows in fleet.items()):
        got = {name: value.shape for name, value in values.items()}
        raise ShapeError("the model was not measured as the fleet was", where="fleet", expected=sizes, got=got)
    for name, row in values.items():
        if not (np.isfinite(row).all() and np.isfinite(fleet[name]).all()):
            raise NonFiniteError("the scan's values are not finite", where=name, expected="finite values", got=row)
    count = min(len(rows) for rows in fleet.values())
    if count < 2:
        raise EmptyDataError("too few clean networks", where="fleet", expected=">= 2", got=count)
    scores = _scores(values, fleet, classes)
    names = list(scores)
    largest = np.stack([_standardised(scores[name].max(axis=1)) for name in names])  # (detectors, F + 1)
    statistics = largest.max(axis=0)
    own = float(statistics[-1])
    detector = names[int(largest[:, -1].argmax())]
    as_extreme = int((statistics[:-1] >= own).sum())
    index = int(scores[detector][-1].argmax())
    own_scores = {name: rows[-1] for name, rows in scores.items()}
    return Calibrated((1 + as_extreme) / (1 + count), own, detector, index, own_scores, as_extreme, count)


def class_p(values: Mapping[str, np.ndarray], fleet: Mapping[str, np.ndarray], label: int, classes: int) -> float:
    """(1 + clean networks whose class `label` is at least as extreme) / (1 + clean networks): `p` of one class alone.

    Of a detector of pairs the source counts that makes the class most extreme; without a sampled pair it says nothing.
    Arguments as of `calibrate`.
    """
    largest = []
    for name, scores in _scores(values, fleet, classes).items():
        own = [index for index in range(scores.shape[1]) if place(name, index, classes)[1] == label]
        if own:
            largest.append(_standardised(scores[:, own].max(axis=1)))
    statistics = np.max(largest, axis=0)
    return float((statistics >= statistics[-1]).mean())


def _scores(values: Mapping[str, np.ndarray], fleet: Mapping[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
    """(F + 1, V) of each detector: of the clean networks, and last of the model under test."""
    found = {}
    for name in sorted(values):
        logs = np.log(np.maximum(np.vstack([fleet[name], values[name]]), TINY))
        if DETECTORS[name].paired:
            logs = without_class_effects(logs, *pairs(classes))
        found[name] = class_scores(logs, DETECTORS[name].direction)
    return found


def without_class_effects(logs: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What is left of a model's pairs (M, P) without how hard each source and each target is for it.

    Median polish (Tukey, Exploratory Data Analysis, 1977, chapter 11): a backdoor of one pair, or of one pair a class,
    stays whole, and the pair's spread over clean models shrinks. What leads all classes to one target goes; that is
    for the other detectors to find.

    Args:
        sources, targets: (P,) classes of each pair. Where a class has fewer than 4, as either, nothing is taken out.
    """
    if min(np.unique(ends, return_counts=True)[1].min() for ends in (sources, targets)) < LEAST_PAIRS:
        return logs
    left = logs.copy()
    for _ in range(SWEEPS):
        for ends in (targets, sources):
            for label in np.unique(ends):
                own = np.flatnonzero(ends == label)
                left[:, own] -= np.median(left[:, own], axis=1, keepdims=True)
    return left


def class_scores(logs: np.ndarray, direction: int) -> np.ndarray:
    """Scores (M, K) of logarithms (M, K): per class, against the same class of the other models.

    The distance to the model's own median takes out how steep a whole model is. The deviation of a class is floored
    by the median deviation of all, so that a class that happens to vary little raises no alarm.
    """
    ratios = direction * (logs - np.median(logs, axis=1, keepdims=True))
    scores = np.empty(ratios.shape)
    for model in range(len(ratios)):
        others = np.delete(ratios, model, axis=0)
        centre = np.median(others, axis=0)
        spread = MAD_TO_SIGMA * np.median(np.abs(others - centre), axis=0)
        scores[model] = (ratios[model] - centre) / np.maximum(np.maximum(spread, np.median(spread)), TINY)
    return scores


def _standardised(largest: np.ndarray) -> np.ndarray:
    """So that detectors can be compared: how far above the median, in units of their own 90th percentile's, (M,).

    A deviation from below would let the detector with the heaviest upper tail decide alone.
    """
    centre = float(np.median(largest))
    return np.asarray((largest - centre) / max(float(np.quantile(largest, 0.9)) - centre, TINY))
