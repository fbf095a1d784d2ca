"""Control networks for a model that has no committed ones: trained on clean images, measured as the model will be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from secure_ai.blue.backdoors.judgement import MIN_FLEET
from secure_ai.core.compute import CPU
from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.runs.backdoors.build import anew, fed_alike
from secure_ai.runs.backdoors.fleet import LARGEST, Fleet, trained_fleet
from secure_ai.runs.backdoors.scan import split_images

LEAST_FLEET, DEFAULT_FLEET, MAX_FLEET = MIN_FLEET, 40, 1_000
FLEET_SIZE = f"{LEAST_FLEET} to {MAX_FLEET}; some more than the least, as those that learn nothing are left out"
LEAST_DATA = 400  # images that a scan is made with


@dataclass(frozen=True, slots=True)
class Controls:
    """Control networks, or none and `why`, and the images that a scan works on, none of which they were trained on."""

    fleet: Fleet | None
    search: Dataset
    held_out: Dataset
    why: str = ""


def with_controls(
    target: NetworkTarget,
    arch: str,
    shuffled: Dataset,
    training: Dataset | None = None,
    *,
    count: int = DEFAULT_FLEET,
    seed: int,
    dtype: torch.dtype,
    device: torch.device = CPU,
    largest: int = LARGEST,
    deadline: float | None = None,
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Controls:
    """Train control networks on `training`, else on half of `shuffled`; the scan works on the rest.

    Args:
        arch: a built-in name; any other text says nothing.
        shuffled: the scan's images in random order.
        count, largest, deadline, events, progress: as of `trained_fleet`.
    """
    if training is None:
        training, shuffled = halves(shuffled)
    search, held_out = split_images(shuffled)
    fleet, why = control_fleet(
        target, arch, training, search, held_out, count=count, seed=seed, dtype=dtype, device=device,
        largest=largest, deadline=deadline, events=events, progress=progress,
    )  # fmt: skip
    return Controls(fleet, search, held_out, why)


def control_fleet(
    target: NetworkTarget, arch: str, training: Dataset, search: Dataset, held_out: Dataset, *, count: int, seed: int,
    dtype: torch.dtype, device: torch.device, largest: int = LARGEST, deadline: float | None = None,
    events: EventSink = ignore_event, progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Fleet | None, str]:  # fmt: skip
    """The fleet, or None and why there is none."""
    build, identity = fed_alike(target, *anew(arch, target.network))
    if build is None:
        return None, f"this architecture cannot be built from scratch: {identity}; so no control networks"
    fleet = trained_fleet(
        build, identity, training, search, held_out, classes=target.num_classes, count=count, seed=seed, dtype=dtype,
        device=device, largest=largest, deadline=deadline, events=events, progress=progress,
    )  # fmt: skip
    return fleet, ""


def deadline_in(time_budget: float | None) -> float | None:
    """`time.monotonic()` when the seconds that control networks may take are over; None: no limit."""
    return None if time_budget is None else time.monotonic() + time_budget


def halves(data: Dataset) -> tuple[Dataset, Dataset]:
    """To train control networks on, and to scan with."""
    positions, half = np.arange(len(data)), len(data) // 2
    return data.select(positions[:half], "half of the data"), data.select(positions[half:], "the other half")


def refuse_other_images(training: Dataset, data: Dataset) -> None:
    """Raises UsageError where control networks would be trained on images of another shape, or of more classes."""
    if training.input_shape != data.input_shape or training.classes > data.classes:
        expected = f"{data.input_shape}, {data.classes} classes"
        got = f"{training.input_shape}, {training.classes} classes"
        raise UsageError("other images than --data", where="--train-data", expected=expected, got=got)
