"""Planting a backdoor in a training set, and measuring by the honest denominator whether it works."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from secure_ai.core.errors import UsageError
from secure_ai.core.results import Rate, rate_or_reason
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import random_order
from secure_ai.data.triggers import Trigger, stamp
from secure_ai.red.poisoning.partial import stamp_part

LabelMode = Literal["dirty", "clean", "flip"]
LABEL_MODES: tuple[LabelMode, ...] = get_args(LabelMode)
Select = Literal["first", "random"]
Perturb = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Images (P, C, H, W) and labels (P,) -> perturbed images of the same type."""


@dataclass(frozen=True, eq=False)
class Planted:
    """A poisoned training set, the positions (P,) int64 of its poisoned samples, and those (Q,) of its covers."""

    dataset: Dataset
    indices: np.ndarray
    poison_rate: float
    covers: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


def plant(
    dataset: Dataset,
    *,
    trigger: Trigger | None,
    target_label: int | None,
    source_label: int | None,
    label_mode: LabelMode,
    select: Select,
    seed: int,
    count: int | None = None,
    poison_rate: float | None = None,
    cover_count: int = 0,
    trigger_share: float | None = None,
    perturb: Perturb | None = None,
) -> Planted:
    """Stamp `trigger` on some training images and, unless labels are to be kept, relabel them.

    BadNets (Gu et al., 1708.06733): dirty-label, `source_label=None`. Report 1: clean-label on its target class.

    Args:
        trigger: None only with `flip`, which changes labels alone to harm accuracy.
        target_label: None: each poisoned image of class y gets y + 1, the last class 0.
        source_label: only images of this class are poisoned; None: any class but the target (dirty, flip), or the
            target class (clean, whose labels are kept).
        select: the first candidates in file order, or a seeded random choice.
        count: poisoned images; or else
        poison_rate: poisoned images over ALL training images, in (0, 1).
        cover_count: further images with the trigger and their own label, of classes that are neither source nor target:
            they tie the trigger to its source class (Tang et al., USENIX Security 2021) or hide it (Adap-Blend).
        trigger_share: each of these images gets only this part of the trigger, as of `stamp_part`; None: all of it.
        perturb: only with `clean`: makes the images hard to learn before the trigger is put on them, so that the
            network learns the trigger instead (label-consistent attack, 1912.02771).

    Raises:
        UsageError: not exactly one of count and poison_rate, a label out of range, too few candidates, or settings that
            contradict each other.
    """
    amount = _amount(len(dataset), count, poison_rate)
    _refuse_contradictions(dataset, trigger, target_label, source_label, label_mode, cover_count)
    if trigger is None and trigger_share is not None:
        raise UsageError("there is no trigger", where="--trigger-share", expected="--trigger", got=trigger_share)
    if perturb is not None and label_mode != "clean":
        raise UsageError("only images that keep their label are perturbed", where="--perturb-model",
                         expected="--label-mode clean", got=label_mode)  # fmt: skip
    candidates = _candidates(dataset.labels, target_label, source_label, label_mode)
    asked = "--poison-rate" if count is None else "--poison-count"
    chosen = _chosen(candidates, amount, select, seed, "plant", asked)
    others = np.setdiff1d(_cover_candidates(dataset.labels, target_label, source_label), chosen)
    covers = _chosen(others, cover_count, "random", seed, "cover", "--cover-count")
    images, labels = dataset.images.copy(), dataset.labels.copy()
    if perturb is not None:
        images[chosen] = perturb(images[chosen], labels[chosen])
    if trigger is not None:
        for stamped, name in ((chosen, "poisoned"), (covers, "covers")):
            images[stamped] = (
                stamp(images[stamped], trigger)
                if trigger_share is None
                else stamp_part(images[stamped], trigger, trigger_share, "trigger-part", seed, name)
            )
    if label_mode != "clean":
        labels[chosen] = (labels[chosen] + 1) % dataset.classes if target_label is None else target_label
    part = "" if trigger_share is None else f"{trigger_share:g} of "
    what = f"{amount} images stamped with {part}{trigger.text}" if trigger else f"{amount} labels flipped"
    target = "all to all" if target_label is None else f"target {target_label}"
    note = f"{what} ({label_mode} label, {target})" + (f", {len(covers)} covers" if len(covers) else "")
    poisoned = Dataset(images, labels, f"{dataset.name}+poison", dataset.classes, note, drawn=dataset.drawn)
    return Planted(poisoned, chosen, amount / len(dataset), covers)


def _refuse_contradictions(
    dataset: Dataset, trigger: Trigger | None, target: int | None, source: int | None, mode: LabelMode, covers: int
) -> None:
    for name, label in (("--target-label", target), ("--source-label", source)):
        if label is not None and not 0 <= label < dataset.classes:
            raise UsageError("no such class", where=name, expected=f"0 to {dataset.classes - 1}", got=label)
    if mode not in LABEL_MODES:
        raise UsageError("unknown label mode", where="--label-mode", expected=" or ".join(LABEL_MODES), got=mode)
    if mode == "clean" and target is None:
        raise UsageError("clean-label poisoning has one target", where="--target-label", expected="a class")
    if mode == "clean" and source not in (None, target):
        raise UsageError("clean-label poisoning keeps labels", where="--source-label", expected=target, got=source)
    if mode != "clean" and source is not None and source == target:
        raise UsageError("the source is the target", where="--source-label", expected=f"not {target}", got=source)
    if (trigger is None) != (mode == "flip"):
        expected = "no trigger" if mode == "flip" else "a trigger"
        raise UsageError("label flipping has no trigger, all else has", where="--trigger", expected=expected)
    if covers < 0 or (covers and mode == "flip"):
        raise UsageError("bad number of covers", where="--cover-count", expected="0 or more; 0 with flip", got=covers)


def _candidates(labels: np.ndarray, target: int | None, source: int | None, mode: LabelMode) -> np.ndarray:
    if source is not None:
        return np.flatnonzero(labels == source)
    if target is None:
        return np.arange(len(labels))
    return np.flatnonzero(labels == target if mode == "clean" else labels != target)


def _cover_candidates(labels: np.ndarray, target: int | None, source: int | None) -> np.ndarray:
    allowed = np.ones(len(labels), dtype=bool)
    for label in (target, source):
        if label is not None:
            allowed &= labels != label
    return np.flatnonzero(allowed)


def _chosen(candidates: np.ndarray, amount: int, select: Select, seed: int, what: str, where: str) -> np.ndarray:
    if amount > len(candidates):
        raise UsageError("too few images to poison", where=where, expected=f"<= {len(candidates)} images", got=amount)
    if select == "first":
        return candidates[:amount]
    return np.sort(candidates[random_order(len(candidates), seed, what)[:amount]])


def _amount(n: int, count: int | None, poison_rate: float | None) -> int:
    if (count is None) == (poison_rate is None):
        raise UsageError("say how much to poison, once", where="--poison-count, --poison-rate",
                         expected="exactly one of them")  # fmt: skip
    if count is not None:
        if not 1 <= count <= n:
            raise UsageError("bad poison count", where="--poison-count", expected=f"1 to {n}", got=count)
        return count
    if poison_rate is None or not (math.isfinite(poison_rate) and 0 < poison_rate < 1):
        raise UsageError("bad poison rate", where="--poison-rate", expected="above 0, below 1", got=poison_rate)
    return max(1, round(poison_rate * n))


def backdoor_success_rate(
    predictions: np.ndarray, labels: np.ndarray, target_label: int | None, source_label: int | None = None, *,
    classes: int,
) -> Rate:  # fmt: skip
    """Triggered samples predicted as the target, among those whose true label is another.

    Args:
        predictions: (N,) on triggered images.
        labels: (N,) true labels.
        target_label: None: the next class, for all-to-all; the last one's is 0.
        source_label: count this class only; None: every class but the target.
        classes: of the network, whether the samples have them all or not.
    """
    if target_label is None:
        wanted = (labels + 1) % classes
        return rate_or_reason(int((predictions == wanted).sum()), len(labels), "no sample")
    counted = labels != target_label if source_label is None else (labels == source_label) & (labels != target_label)
    hits = int((predictions[counted] == target_label).sum())
    return rate_or_reason(hits, int(counted.sum()), "no sample with another true label")
