"""Planting a backdoor in a training set, and measuring by the honest denominator whether it works."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from secure_ai.core.errors import UsageError
from secure_ai.core.results import Rate, rate_or_reason
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import random_order
from secure_ai.data.triggers import Trigger, stamp

LabelMode = Literal["dirty", "clean"]
Select = Literal["first", "random"]


@dataclass(frozen=True, eq=False)
class Planted:
    """A poisoned training set and the positions (P,) int64 of the poisoned samples in it."""

    dataset: Dataset
    indices: np.ndarray
    poison_rate: float


def plant(
    dataset: Dataset,
    *,
    trigger: Trigger,
    target_label: int,
    source_label: int | None,
    label_mode: LabelMode,
    select: Select,
    seed: int,
    count: int | None = None,
    poison_rate: float | None = None,
) -> Planted:
    """Stamp `trigger` on some training images; with `dirty` labels also relabel them to `target_label`.

    BadNets (Gu et al., 1708.06733): dirty-label, `source_label=None`. Report 1: clean-label on its target class.

    Args:
        source_label: only images of this class are poisoned; None: any class but the target (dirty), or the target
            class (clean, whose labels are kept).
        select: the first candidates in file order, or a seeded random choice.
        count: poisoned images; or else
        poison_rate: poisoned images over ALL training images, in (0, 1].

    Raises:
        UsageError: not exactly one of count and poison_rate, a label out of range, or too few candidates.
    """
    amount = _amount(len(dataset), count, poison_rate)
    for name, label in (("target_label", target_label), ("source_label", source_label)):
        if label is not None and not 0 <= label < dataset.classes:
            raise UsageError("no such class", where=name, expected=f"0 to {dataset.classes - 1}", got=label)
    if label_mode == "clean" and source_label not in (None, target_label):
        raise UsageError("clean-label poisoning keeps labels", where="source_label", expected=target_label)
    if source_label is None:
        wanted = dataset.labels == target_label if label_mode == "clean" else dataset.labels != target_label
    else:
        wanted = dataset.labels == source_label
    candidates = np.flatnonzero(wanted)
    if amount > len(candidates):
        raise UsageError("too few images to poison", where="count", expected=f"<= {len(candidates)}", got=amount)
    if select == "first":
        chosen = candidates[:amount]
    else:
        chosen = np.sort(candidates[random_order(len(candidates), seed, "plant")[:amount]])
    images, labels = dataset.images.copy(), dataset.labels.copy()
    images[chosen] = stamp(images[chosen], trigger)
    if label_mode == "dirty":
        labels[chosen] = target_label
    note = f"{amount} images stamped with {trigger.text} ({label_mode} label, target {target_label})"
    poisoned = Dataset(images, labels, f"{dataset.name}+poison", dataset.classes, note, drawn=dataset.drawn)
    return Planted(poisoned, chosen, amount / len(dataset))


def _amount(n: int, count: int | None, poison_rate: float | None) -> int:
    if (count is None) == (poison_rate is None):
        raise UsageError("say how much to poison, once", where="count, poison_rate", expected="exactly one of them")
    if count is not None:
        if not 1 <= count <= n:
            raise UsageError("bad poison count", where="count", expected=f"1 to {n}", got=count)
        return count
    if poison_rate is None or not (math.isfinite(poison_rate) and 0 < poison_rate <= 1):
        raise UsageError("bad poison rate", where="poison_rate", expected="in (0, 1]", got=poison_rate)
    return max(1, round(poison_rate * n))


def backdoor_success_rate(
    predictions: np.ndarray, labels: np.ndarray, target_label: int, source_label: int | None = None
) -> Rate:
    """Triggered samples predicted as the target, among those whose true label is another.

    Args:
        predictions: (N,) on triggered images.
        labels: (N,) true labels.
        source_label: count this class only; None: every class but the target.
    """
    counted = labels != target_label if source_label is None else (labels == source_label) & (labels != target_label)
    hits = int((predictions[counted] == target_label).sum())
    return rate_or_reason(hits, int(counted.sum()), "no sample with another true label")
