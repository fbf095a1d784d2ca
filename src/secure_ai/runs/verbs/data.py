"""The verbs `data fetch` and `data show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.data.mnist import fetch
from secure_ai.data.source import load_data


def data_fetch(name: str = "mnist", *, folder: str | Path | None = None, events: EventSink = ignore_event) -> Path:
    """Bring a built-in data set into the cache, verified. Returns its folder. Raises DataUnavailableError."""
    if name != "mnist":
        raise UsageError("no such data set", where="data fetch", expected="mnist", got=name)
    return fetch(folder=Path(folder) if folder else None, events=events)


def data_show(
    data: str,
    *,
    split: str = "test",
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    events: EventSink = ignore_event,
) -> dict[str, Any]:
    """What a data source holds: shape, dtype, range, classes with their counts, digest, and how it was selected."""
    dataset = load_data(data, split=split, n=n, resize=resize, seed=seed, events=events)
    counts = np.bincount(dataset.labels, minlength=dataset.classes)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": dataset.name,
        "digest": dataset.digest,
        "n": len(dataset),
        "shape": list(dataset.input_shape),
        "dtype": str(dataset.images.dtype),
        "lowest": float(dataset.images.min()),
        "highest": float(dataset.images.max()),
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "per_class": [int(count) for count in counts],
        "note": dataset.note,
    }
