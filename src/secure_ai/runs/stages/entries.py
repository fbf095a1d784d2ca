"""Entries of a result, built one way: ids from network and condition, a trust verdict always."""

from __future__ import annotations

import base64

import numpy as np

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.comparisons import Confusion
from secure_ai.core.result import PerSample
from secure_ai.core.results import MeasuredQuantity, Measurement, Rate, of_effective
from secure_ai.core.trust import Trust, judge, sample_size_check
from secure_ai.data.dataset import Dataset


def rate_entry(
    model: str,
    name: str,
    metric: str,
    value: Rate,
    protocol: str,
    *,
    condition: str = "",
    data: Dataset | None = None,
    budget: PerturbationBudget | None = None,
    trust: Trust | None = None,
    trigger: str = "",
    made_for: str = "",
) -> Measurement:
    """The rate `MODEL/NAME`; without a verdict of its own, its sample size decides.

    Args:
        condition: what was done to the images; default: `name`.
        data: the images it is over; says how they were drawn, and how many independent ones they are worth.
    """
    return Measurement(
        id=f"{model}/{name}",
        model=model,
        metric=metric,
        value=value if data is None else of_effective(value, data.n_effective, len(data)),
        protocol=protocol,
        stage="",  # the engine knows it
        replay="",  # the report knows the command
        budget=budget,
        trust=trust or judge([sample_size_check(value.n)], breaking=frozenset()),
        condition=condition or name,
        trigger=trigger,
        made_for=made_for,
        drawn=data.drawn if data is not None else "all",
    )


def quantity_entry(model: str, name: str, metric: str, value: float, unit: str, *, n: int = 0) -> MeasuredQuantity:
    """The quantity `MODEL/NAME`, e.g. `subject/clean/loss`."""
    return MeasuredQuantity(id=f"{model}/{name}", model=model, metric=metric, value=value, unit=unit, n=n, stage="")


def confusion_entry(
    model: str, name: str, title: str, counts: np.ndarray | list[list[int]], class_names: tuple[str, ...] = ()
) -> Confusion:
    """The counts `MODEL/NAME/confusion`, (K, K), row = true label."""
    rows = tuple(tuple(int(count) for count in row) for row in counts)
    return Confusion(id=f"{model}/{name}/confusion", model=model, title=title, counts=rows, class_names=class_names)


def per_sample(measurement: Measurement, correct: np.ndarray) -> PerSample:
    """Which samples (N,) bool were classified correctly, for comparisons on the same images."""
    bits = np.packbits(np.asarray(correct, dtype=bool)).tobytes()
    return PerSample(measurement.id, len(correct), base64.b64encode(bits).decode("ascii"))


def unpacked(entry: PerSample) -> np.ndarray:
    """What `per_sample` was given."""
    bits = np.frombuffer(base64.b64decode(entry.bits, validate=True), dtype=np.uint8)
    return np.unpackbits(bits, count=entry.n).astype(bool)
