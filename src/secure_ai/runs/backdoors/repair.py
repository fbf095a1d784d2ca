"""A suspected network repaired by every remover, each measured, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from secure_ai.blue.backdoors.calibration import class_p
from secure_ai.blue.backdoors.inversion import EVERY
from secure_ai.blue.backdoors.judgement import P_SUSPICIOUS
from secure_ai.blue.backdoors.removal import REMOVERS, relearned
from secure_ai.blue.backdoors.repair import Reconstructed, Repair, seeded
from secure_ai.core.errors import ArchError
from secure_ai.core.results import Rate
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import random_order
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import to_channels_last
from secure_ai.red.poisoning.plant import backdoor_success_rate
from secure_ai.runs.backdoors.fleet import Fleet, significant
from secure_ai.runs.backdoors.scan import SEARCH, scan_target

LEAST_IMAGES, MOST_IMAGES, TRIED = 600, 3_000, 2_000
MOST_LOST = 0.01  # of clean accuracy


@dataclass(frozen=True, slots=True)
class State:
    """A network before or after: accuracy, success of the reconstructed trigger, triggered images classified correctly.

    Attributes:
        statistic: of the scan, in deviations of clean networks; None without a fleet.
        class_p: p of the class that was suspected before the repair, alone; None without a conclusive scan.
        relearned: success of the reconstructed trigger after a few epochs on 50 triggered images.
    """

    accuracy: Rate
    success: Rate
    recovered: Rate
    statistic: float | None
    class_p: float | None = None
    relearned: Rate | None = None
    unscanned: str = "without control networks the suspected class is a guess, and there was no second scan"

    def as_json(self) -> dict[str, Any]:
        """The object in the report."""
        return {
            "clean_accuracy": self.accuracy.as_json(),
            "reconstructed_trigger_success": self.success.as_json(),
            "recovered_label_accuracy": self.recovered.as_json(),
            "scan_statistic": self.statistic,
            "scan_class_p": self.class_p,
            "success_after_relearning": self.relearned and self.relearned.as_json(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """A network to be repaired, and what every measurement of its repair shares.

    Attributes:
        repair: images that removers learn from; search: that a scan works on; held_out: that everything is measured on.
    """

    target: NetworkTarget
    repair: Dataset
    search: Dataset
    held_out: Dataset
    fleet: Fleet | None
    trigger: Reconstructed
    seed: int

    @property
    def label(self) -> int:
        """What the reconstructed trigger turns images into."""
        return self.trigger.label

    @property
    def triggered(self) -> np.ndarray:
        """Positions of the held-out images that the reconstructed trigger is for."""
        labels = np.asarray(self.held_out.labels)
        source = self.trigger.source
        return np.flatnonzero(labels != self.label if source == EVERY else labels == source)


def parts_of(whole: Dataset, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Images that removers learn from, that a scan works on, and that everything is measured on."""
    order = random_order(len(whole), seed, "remove-split")
    count = min(MOST_IMAGES, len(whole) // 2)
    parts = order[:count], order[count : count + SEARCH], order[count + SEARCH :][:TRIED]
    repair, search, held_out = (whole.select(part, "part") for part in parts)
    return repair, search, held_out


def suspect(target: NetworkTarget, whole: Dataset, fleet: Fleet | None, seed: int) -> Suspect:
    """The scan that a repair starts from; without control networks it takes the class with the smallest mask.

    Raises:
        ArchError: no trigger could be reconstructed.
    """
    repair, search, held_out = parts_of(whole, seed)
    scan = scan_target(target, search, held_out, fleet, seed, ())
    if scan.trigger is not None:
        name, source, label = scan.trigger.detector, scan.trigger.source, scan.trigger.label
        index = scan.calibrated.index if scan.calibrated and scan.calibrated.detector == name else label
    else:
        name, source = "mask", EVERY
        index = label = int(scan.values["mask"].argmin())
    found = scan.found[name]
    if found.inverted is None or found.searches is None:
        raise ArchError("nothing could be inverted", where=target.name)
    trigger = Reconstructed(found.inverted, int(found.searches[index]), source, label)
    return Suspect(target, repair, search, held_out, fleet, trigger, seed)


def repairs(
    own: Suspect, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[dict[str, nn.Module], dict[str, State]]:
    """The repaired network of every remover that can work on it, and its state."""
    networks: dict[str, nn.Module] = {}
    states: dict[str, State] = {}
    for number, (name, remover) in enumerate(REMOVERS.items()):
        try:
            with seeded(own.target, own.seed, "removal", name):
                networks[name] = remover(Repair(own.target, own.repair, own.trigger, own.seed))
        except ArchError:
            continue  # a network without a layer to prune
        states[name] = state_of(networks[name], own)
        progress(number + 1, len(REMOVERS))
    return networks, states


def choose(before: State, tried: Mapping[str, State]) -> str:
    """Accuracy first, then the suspected class in a second scan, then its trigger. Nothing here knows the planted one.

    The whole scan's statistic would not do: once the suspected class looks clean, it is of some other class. Among
    networks whose class looks clean, how clean it looks is chance: there the reconstructed trigger's success decides.

    Note: unlearning was trained on that trigger, and on triggers that the second scan searches for; both flatter it.
    """

    def value(state: State) -> float:
        return state.accuracy.bounds.value

    kept = {name: state for name, state in tried.items() if value(state) >= value(before) - MOST_LOST}
    if not kept:
        return max(tried, key=lambda name: value(tried[name]))
    return min(kept, key=lambda name: (-min(kept[name].class_p or 0.0, P_SUSPICIOUS), kept[name].success.bounds.value))


def doubts(before: State, after: State) -> tuple[str, ...]:
    """Why a backdoor may be there still; empty: nothing says so."""
    found = []
    if after.class_p is None:
        found.append(after.unscanned)
    elif after.class_p <= P_SUSPICIOUS:
        found.append("the suspected class still stands out in the second scan")
    if after.success.bounds.value >= before.success.bounds.value:
        found.append("the reconstructed trigger works as before")
    return tuple(found)


def state_of(network: nn.Module, own: Suspect) -> State:
    """What a network does on held-out images, without and with the reconstructed trigger, and in a second scan."""
    target, labels = target_of(network, own), np.asarray(own.held_out.labels)
    accuracy = evaluate(target, own.held_out.images, labels).accuracy
    images, labels = own.held_out.images[own.triggered], labels[own.triggered]
    shown = evaluate(target, own.trigger.stamp(images), labels)
    success = backdoor_success_rate(shown.predictions, labels, own.label, classes=target.num_classes)
    scan = scan_target(target, own.search, own.held_out, own.fleet, own.seed, ()) if own.fleet else None
    if scan is None or scan.fleet is None:
        return State(accuracy, success, shown.accuracy, None)
    if scan.calibrated is None:
        return State(accuracy, success, shown.accuracy, None, unscanned=f"the second scan: {scan.reasons[0]}")
    fleet = scan.fleet.values(sorted(scan.values))
    values = {name: np.array(significant(value)) for name, value in scan.values.items()}
    p = class_p(values, fleet, own.label, target.num_classes)
    return State(accuracy, success, shown.accuracy, round(scan.calibrated.statistic, 4), p)


def target_of(network: nn.Module, own: Suspect) -> NetworkTarget:
    """A repaired network as something to measure."""
    return replace(own.target, network=to_channels_last(network).eval(), name="repaired", digest="")


def with_relearning(state: State, network: nn.Module, own: Suspect) -> State:
    """The state with the success of the reconstructed trigger after a few epochs on 50 triggered images."""
    return replace(state, relearned=success_after_relearning(network, own))


def success_after_relearning(network: nn.Module, own: Suspect) -> Rate:
    """The same figure of any network, e.g. a clean one."""
    again = target_of(relearned(network, own.repair, own.trigger.stamp, own.label, own.seed), own)
    labels = np.asarray(own.held_out.labels)[own.triggered]
    found = evaluate(again, own.trigger.stamp(own.held_out.images[own.triggered]), labels)
    return backdoor_success_rate(found.predictions, labels, own.label, classes=again.num_classes)
