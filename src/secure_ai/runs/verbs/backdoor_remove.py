"""The verb `backdoor remove`: a repaired network, chosen by clean accuracy and a second scan, never by the trigger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from secure_ai.blue.backdoors.detectors import detect
from secure_ai.blue.backdoors.fleet import control_network
from secure_ai.blue.backdoors.inversion import Inverted
from secure_ai.blue.backdoors.removal import REMOVERS, Repair, relearned
from secure_ai.core.compute import Device, configure
from secure_ai.core.errors import ArchError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION, Rate
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.splits import random_order
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.files.write import refuse_unwritable, write_bytes
from secure_ai.models.load.store import LoadedModel, model_bytes
from secure_ai.models.networks.built_in import NETWORKS
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.tensors import to_channels_last
from secure_ai.red.poisoning.plant import backdoor_success_rate
from secure_ai.runs.backdoors.build import anew
from secure_ai.runs.backdoors.fleet import Fleet, known_fleet
from secure_ai.runs.backdoors.scan import Scan, scan_target
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import is_object, load_subject, spec_of, target_for

MOST_IMAGES, LEAST_IMAGES, SEARCH = 3_000, 600, 200
MOST_LOST = 0.01  # of clean accuracy


@dataclass(frozen=True, slots=True)
class State:
    """A network before or after: accuracy, success of the reconstructed trigger, triggered images classified correctly.

    Attributes:
        planted: success of the planted trigger, where the user named it; it decides nothing.
        statistic: of the scan, in deviations of clean networks; None without a fleet.
        relearned: success of the reconstructed trigger after a few epochs on 50 triggered images.
    """

    accuracy: Rate
    success: Rate
    recovered: Rate
    planted: Rate | None
    statistic: float | None
    relearned: Rate | None = None

    def as_json(self) -> dict[str, Any]:
        """The object in the report."""
        return {
            "clean_accuracy": self.accuracy.as_json(),
            "reconstructed_trigger_success": self.success.as_json(),
            "recovered_label_accuracy": self.recovered.as_json(),
            "planted_trigger_success": self.planted and self.planted.as_json(),
            "scan_statistic": self.statistic,
            "success_after_relearning": self.relearned and self.relearned.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Removed:
    """What was done, before and after, each remover's result, and the file."""

    chosen: str
    label: int
    before: State
    after: State
    tried: dict[str, State]
    clean_relearned: Rate | None
    out: str

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai backdoor remove --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "chosen": self.chosen,
            "label": self.label,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "tried": {name: state.as_json() for name, state in self.tried.items()},
            "clean_network_after_relearning": self.clean_relearned and self.clean_relearned.as_json(),
            "file": self.out,
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What every measurement of one removal shares."""

    repair: Dataset
    search: Dataset
    held_out: Dataset
    fleet: Fleet | None
    inverted: Inverted
    label: int
    planted: tuple[str, int] | None
    classes: int
    transform: InputTransform
    seed: int


def backdoor_remove(
    model: ModelSpec | nn.Module,
    data: str,
    *,
    out: str | Path,
    trigger: str | None = None,
    target_label: int | None = None,
    split: str = "train",
    n: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Literal["auto", "float32"] = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Removed:
    """Try every remover, keep the best.

    Of those that lose at most a point of clean accuracy the one that a second scan finds least conspicuous is kept.

    Args:
        data: clean images: at most 3,000 repair, the others measure.
        trigger: the planted trigger, if it is known, with its `target_label`: only measured with, after the choice.
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SecureAIError: a model, data or request that cannot be used, or an output that cannot be written.
    """
    if (trigger is None) != (target_label is None):
        raise UsageError(
            "a planted trigger has a target", where="--trigger, --target-label", expected="both or neither"
        )
    refuse_unwritable(Path(out))
    compute = configure(precision, device)
    whole = load_data(data, split=split, n=n, seed=seed, events=events)
    if len(whole) < LEAST_IMAGES:
        raise UsageError("too few images", where="--data", expected=f">= {LEAST_IMAGES}", got=len(whole))
    loaded = load_subject(spec_of(model), whole, events, given=model if is_object(model) else None)
    target = examine(target_for(loaded, whole, spec_of(model), device=compute.device), whole, seed).target
    if target.access != "gradients":
        raise UsageError("a removal needs gradients", where="--access", expected="gradients", got=target.access)
    planted = None if trigger is None or target_label is None else (parse_trigger(trigger).text, target_label)
    work = _work(target, loaded, whole, planted, seed)
    before = _state(target.network, work)
    networks: dict[str, nn.Module] = {}
    tried: dict[str, State] = {}
    for number, (name, remover) in enumerate(REMOVERS.items()):
        stamped = lambda images: work.inverted.stamp(images, work.label)  # noqa: E731  # one argument of the next line
        try:
            networks[name] = remover(Repair(_plain(target), work.repair, stamped, seed))
        except ArchError:
            continue  # a network without a layer to prune
        tried[name] = _state(networks[name], work)
        progress(number + 1, len(REMOVERS))
    chosen = choose(before, tried)
    after = tried[chosen]
    network = networks[chosen]
    write_bytes(Path(out), model_bytes(network, loaded.arch if loaded.arch in NETWORKS else ""))
    events("model_written", {"file": Path(out).name})
    clean = _clean_network(loaded, work, compute.device)
    return Removed(
        chosen, work.label, _with_relearning(before, target.network, work),
        _with_relearning(after, network, work), tried,
        None if clean is None else _relearned(clean, work), str(out),
    )  # fmt: skip


def choose(before: State, tried: dict[str, State]) -> str:
    """Accuracy first, then the second scan, then the reconstructed trigger; the planted one is not looked at."""

    def value(state: State) -> float:
        return state.accuracy.bounds.value

    kept = {name: state for name, state in tried.items() if value(state) >= value(before) - MOST_LOST}
    if not kept:
        return max(tried, key=lambda name: value(tried[name]))
    return min(kept, key=lambda name: (kept[name].statistic or 0.0, kept[name].success.bounds.value))


def _work(
    target: NetworkTarget, loaded: LoadedModel, whole: Dataset, planted: tuple[str, int] | None, seed: int
) -> _Work:
    order = random_order(len(whole), seed, "remove-split")
    count = min(MOST_IMAGES, len(whole) // 2)
    search, rest = order[count : count + SEARCH], order[count + SEARCH :]
    repair, searched, held = (whole.select(part, "part") for part in (order[:count], search, rest[:2_000]))
    fleet = known_fleet(loaded.arch, whole.name)
    scan = scan_target(target, searched, held, fleet, seed)
    found = detect(target, searched.images, searched.labels, seed)
    sizes = scan.values["mask"]
    label = scan.calibrated.label if scan.calibrated else int(sizes.argmin())
    name = scan.trigger.detector if scan.trigger else "mask"
    inverted = found[name].inverted
    if inverted is None:
        raise ArchError("nothing could be inverted", where=loaded.name)
    return _Work(repair, searched, held, fleet, inverted, label, planted, target.num_classes, target.transform, seed)


def _plain(target: NetworkTarget) -> nn.Module:
    """The network as it is; removers feed it pixels in [0, 1]. Raises UsageError where it wants others."""
    if target.transform != InputTransform():
        raise UsageError("a repair feeds pixels in [0, 1]", where="--mean, --std, --range", expected="none")
    return target.network


def _state(network: nn.Module, work: _Work) -> State:
    target = _target(network, work)
    images, labels = work.held_out.images, np.asarray(work.held_out.labels)
    accuracy = evaluate(target, images, labels).accuracy
    triggered = evaluate(target, work.inverted.stamp(images, work.label), labels)
    others = labels != work.label
    success = backdoor_success_rate(triggered.predictions, labels, work.label)
    recovered = evaluate(target, work.inverted.stamp(images[others], work.label), labels[others]).accuracy
    planted = None
    if work.planted is not None:
        text, label = work.planted
        shown = evaluate(target, stamp(images, parse_trigger(text)), labels).predictions
        planted = backdoor_success_rate(shown, labels, label)
    scan: Scan | None = scan_target(target, work.search, work.held_out, work.fleet, work.seed) if work.fleet else None
    statistic = round(scan.calibrated.statistic, 4) if scan and scan.calibrated else None
    return State(accuracy, success, recovered, planted, statistic)


def _target(network: nn.Module, work: _Work) -> NetworkTarget:
    return NetworkTarget(
        to_channels_last(network).eval(), name="repaired", digest="", input_shape=work.held_out.input_shape,
        num_classes=work.classes, transform=work.transform,
    )  # fmt: skip


def _relearned(network: nn.Module, work: _Work) -> Rate:
    stamped = lambda images: work.inverted.stamp(images, work.label)  # noqa: E731  # one argument of the next line
    again = _target(relearned(network, work.repair, stamped, work.label, work.seed), work)
    labels = np.asarray(work.held_out.labels)
    found = evaluate(again, work.inverted.stamp(work.held_out.images, work.label), labels)
    return backdoor_success_rate(found.predictions, labels, work.label)


def _with_relearning(state: State, network: nn.Module, work: _Work) -> State:
    return State(
        state.accuracy, state.success, state.recovered, state.planted, state.statistic, _relearned(network, work)
    )


def _clean_network(loaded: LoadedModel, work: _Work, device: torch.device) -> nn.Module | None:
    """A network from scratch on the clean images, for comparison; None where the architecture cannot be built."""
    build, _ = anew(loaded)
    if build is None:
        return None
    return control_network(build, work.repair, 0, work.seed, largest=MOST_IMAGES, device=device)
