"""Measurements of clean control networks: committed with the package, or made once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import nn

from secure_ai.blue.backdoors.detectors import DETECTORS, detect
from secure_ai.blue.backdoors.fleet import RECIPES, control_network
from secure_ai.blue.backdoors.inversion import FORMS, MOST_PAIRED, PRICES, SUCCESS
from secure_ai.blue.backdoors.judgement import learned
from secure_ai.blue.backdoors.margin import STARTS, STEPS
from secure_ai.core.compute import CPU, device_name
from secure_ai.core.errors import SecureAIError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.mnist import load_mnist
from secure_ai.files.cache import cache_root
from secure_ai.files.jsons import parse_json
from secure_ai.files.seal import SealedFile, user_seal
from secure_ai.files.write import make_folder
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.tensors import to_channels_last
from secure_ai.runs.backdoors.cost import members_seconds

KNOWN = "known_fleets.json"
LARGEST = 24_000  # training images of a control network, where no other number is asked for
MAX_MEMBER_BYTES = 10_000_000
DIGITS = 6  # significant ones, of a value that is kept

Build = Callable[[torch.Generator], nn.Module]


@dataclass(frozen=True, slots=True)
class Member:
    """One clean control network: its accuracy on held-out images, and each detector's value for each class."""

    index: int
    accuracy: float
    values: dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Clean control networks of one architecture.

    Attributes:
        source: where they come from, for people.
        training_images: the images that each was trained on were taken from.
        asked: how many were asked for; fewer where time was short.
        seconds: that making them took; 0 where they were there.
        power: detection rates by kind of trigger, measured with this fleet; empty: not measured.
        note: what of the cache was not reused, and why; empty: nothing stood in the way.
        dropped: members left out because they learned far less than most.
    """

    members: tuple[Member, ...]
    source: str
    training_images: int
    asked: int
    seconds: float = 0.0
    power: Mapping[str, Any] | None = None
    note: str = ""
    dropped: int = 0

    def as_json(self) -> dict[str, Any]:
        """The entry `fleet` of a scan."""
        return {
            "n": len(self.members),
            "asked": self.asked,
            "dropped": self.dropped,
            "source": self.source,
            "training_images": self.training_images,
            "seconds": round(self.seconds, 2),
            "power": self.power,
        }

    @property
    def power_text(self) -> str:
        """How many planted backdoors of each kind were called `suspicious` or `backdoored`, for people."""
        if not self.power:
            return "detection rates: not measured with these control networks"
        rates = {kind: rows["suspicious or backdoored"] for kind, rows in self.power.items()}
        return "detected of planted backdoors: " + "; ".join(
            f"{kind} {one['successes']} of {one['n']} [{100 * one['ci_low']:.0f}, {100 * one['ci_high']:.0f} %]"
            for kind, one in rates.items()
        )

    def values(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """(F, K) of each detector of `names`."""
        return {name: np.array([member.values[name] for member in self.members]) for name in names}

    @property
    def accuracy(self) -> float:
        """The members' median accuracy."""
        return float(np.median([member.accuracy for member in self.members]))

    def comparable(self) -> Fleet:
        """Without the members that learned far less than most."""
        kept = learned([member.accuracy for member in self.members])
        members = tuple(self.members[position] for position in kept)
        return replace(self, members=members, dropped=self.dropped + len(self.members) - len(members))


@cache
def _known() -> Mapping[str, Any]:
    file = resources.files("secure_ai") / "blue" / "backdoors" / KNOWN
    found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def known_fleet(arch: str, transform: InputTransform, data: Dataset | None = None) -> Fleet | None:
    """The committed fleet for a built-in network and images of MNIST.

    Args:
        transform: of the model under test; control networks were given pixels in [0, 1] as they are.
        data: that the scan works on; None for a scan without data.

    Returns:
        None where there is none, where it was measured otherwise than the code of today would, or for other images,
        whatever they are called.
    """
    entry = _known().get(arch)
    if entry is None or entry["settings"] != measuring_settings() or transform != InputTransform():
        return None
    if data is not None and not _of_mnist(data):
        return None
    members = tuple(Member(one["index"], one["accuracy"], one["values"]) for one in entry["members"])
    return Fleet(
        members=members,
        source=f"{len(members)} committed control networks, trained on {entry['data']}",
        training_images=entry["training_images"],
        asked=len(members),
        power=entry.get("power") if data is not None else None,  # it was measured with data
    )


def _of_mnist(data: Dataset) -> bool:
    """Whether every image is the one of MNIST at its position; a name alone says nothing."""
    name, _, split = data.name.partition(":")
    if name != "mnist" or split not in ("train", "test"):
        return False
    try:
        original = load_mnist(split)
    except SecureAIError:  # not to be had; these are the user's own under its name
        return False
    inside = int(data.indices.min()) >= 0 and int(data.indices.max()) < len(original)
    return inside and np.array_equal(original.images[data.indices], data.images)


def significant(values: np.ndarray) -> list[float]:
    """A detector's values as they are kept; the model under test is compared in the same digits."""
    return [float(f"{value:.{DIGITS}g}") for value in values]


def measuring_settings() -> str:
    """Everything that decides a member's values besides its network and the images."""
    forms = {name: (form.steps, form.learning_rate, form.images) for name, form in FORMS.items()}
    return json.dumps([sorted(DETECTORS), forms, SUCCESS, PRICES, MOST_PAIRED, STARTS, STEPS, RECIPES], sort_keys=True)


def measure_member(
    network: nn.Module, index: int, search: Dataset, held_out: Dataset, classes: int, seed: int
) -> Member:
    """A control network's member of the fleet, measured on the very images that the model is."""
    target = _target(network, index, search, classes)
    accuracy = evaluate(target, held_out.images, held_out.labels).accuracy.bounds.value
    found = detect(target, search.images, search.labels, seed)
    return Member(index, round(accuracy, 6), {name: significant(one.values) for name, one in found.items()})


def _target(network: nn.Module, index: int, search: Dataset, classes: int) -> NetworkTarget:
    return NetworkTarget(
        to_channels_last(network), name=f"control {index}", digest="", input_shape=search.input_shape,
        num_classes=classes,
    )  # fmt: skip


def trained_fleet(
    build: Build,
    identity: str,
    training: Dataset,
    search: Dataset,
    held_out: Dataset,
    *,
    classes: int,
    count: int,
    seed: int,
    dtype: torch.dtype,
    device: torch.device = CPU,
    largest: int = LARGEST,
    deadline: float | None = None,
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fleet:
    """`count` control networks, each trained and measured unless the user's cache has it; a kill loses at most one.

    Args:
        identity: what `build` makes, e.g. a built-in name or a digest of its shapes.
        training: taken to be clean.
        search: images that the detectors search on; held_out: that accuracy is measured on; none in `training`.
        classes: outputs of the network.
        largest: most training images of one control network.
        deadline: `time.monotonic()`; a network that would end past it is not begun: the fleet is smaller then.
        events: told how many will be trained, and the seconds that this takes, before the first is trained.
        progress: first told how many lie in the cache.
    """
    data = [training.digest, search.digest, held_out.digest]
    content = [identity, *data, classes, seed, largest, measuring_settings(), str(dtype)]
    content += [] if device.type == "cpu" else [device_name(device)]
    folder = make_folder(cache_root() / "fleets" / hashlib.sha256(repr(content).encode()).hexdigest()[:32])
    seal = user_seal()
    files = [SealedFile(folder, str(index), f"fleet {folder.name} {index}", seal) for index in range(count)]
    members = {index: member for index, file in enumerate(files) if (member := _cached(file)) is not None}
    missing = [index for index in range(count) if index not in members]
    foreign, began, longest = sum(files[index].exists() for index in missing), time.monotonic(), 0.0
    if missing:
        one = _target(build(generator(seed, "forecast")).to(device).eval(), missing[0], search, classes)
        seconds = members_seconds(one, missing, training, search, held_out, seed=seed, largest=largest, dtype=dtype)
        longest = seconds / len(missing)  # the first is not begun, either, where it would end too late
        limit = None if deadline is None else max(0.0, round(deadline - time.monotonic(), 1))
        events(
            "control_networks_planned", {"count": len(missing), "seconds": round(seconds, 1), "limit_seconds": limit}
        )
    progress(len(members), count)
    for index in missing:
        start = time.monotonic()
        if deadline is not None and start + longest > deadline:
            break
        network = control_network(build, training, index, seed, largest=largest, dtype=dtype, device=device)
        members[index] = measure_member(network, index, search, held_out, classes, seed)
        files[index].write(json.dumps(asdict(members[index]), allow_nan=False).encode())
        longest = max(longest, time.monotonic() - start)
        progress(len(members), count)
    made = f"{count}" if len(members) == count else f"{len(members)} of {count}"
    return Fleet(
        members=tuple(members[index] for index in sorted(members)),
        source=f"{made} control networks trained on {training.name}",
        training_images=min(len(training), largest),
        asked=count,
        seconds=time.monotonic() - began,
        note=seal.note
        or (f"{foreign} control networks of the cache: not written with this user's key" if foreign else ""),
    )


def _cached(file: SealedFile) -> Member | None:
    """A member of the cache; one that does not hold counts as none."""
    content = file.read(MAX_MEMBER_BYTES)
    if content is None:
        return None
    try:
        found = parse_json(content, where=file.name)
        values = {str(key): [float(v) for v in value] for key, value in found["values"].items()}
        return Member(int(found["index"]), float(found["accuracy"]), values)
    except (SecureAIError, KeyError, TypeError, ValueError, AttributeError):
        return None
