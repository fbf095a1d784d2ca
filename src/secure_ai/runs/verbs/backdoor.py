"""The verb `backdoor plant`: a poisoned training set, written as NPZ with a record of what was done."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.data.source import load_data
from secure_ai.data.triggers import parse_trigger
from secure_ai.files.write import make_folder, write_bytes, write_json
from secure_ai.red.poisoning.plant import LabelMode, plant

DATA_NAME = "poisoned.npz"
RECORD_NAME = "poison.json"


@dataclass(frozen=True, slots=True)
class PlantResult:
    """Where the poisoned set lies, and the record beside it."""

    folder: Path
    record: dict[str, Any]


def backdoor_plant(
    data: str,
    *,
    trigger: str | None,
    target_label: int | None,
    out: str | Path,
    poison_rate: float | None = None,
    poison_count: int | None = None,
    cover_count: int = 0,
    source_label: int | None = None,
    label_mode: LabelMode = "dirty",
    split: str = "train",
    n: int | None = None,
    seed: int = 0,
    events: EventSink = ignore_event,
) -> PlantResult:
    """Stamp a trigger on randomly chosen training images, or flip labels, and write the set with its record.

    Args:
        trigger: e.g. `patch:size=4:place=bottom-right:value=1`; None with `label_mode="flip"`.
        target_label: None: all to all, every class y to y + 1.
        poison_rate: poisoned over ALL training images; exactly one of this and `poison_count`.
        cover_count: images of other classes with the trigger and their own label.
        source_label: only images of this class; default: any but the target.

    Raises:
        SecureAIError: bad data, trigger, labels or amount, or an output that cannot be written.
    """
    dataset = load_data(data, split=split, n=n, seed=seed, events=events)
    value = None if trigger is None else parse_trigger(trigger)
    planted = plant(
        dataset,
        trigger=value,
        target_label=target_label,
        source_label=source_label,
        label_mode=label_mode,
        select="random",
        seed=seed,
        count=poison_count,
        poison_rate=poison_rate,
        cover_count=cover_count,
    )
    record = {
        "schema_version": SCHEMA_VERSION,
        "source": {"name": dataset.name, "digest": dataset.digest, "n": len(dataset), "note": dataset.note},
        "poisoned": {"digest": planted.dataset.digest},
        "trigger": "" if value is None else value.text,
        "target_label": target_label,
        "source_label": source_label,
        "label_mode": label_mode,
        "poison_count": len(planted.indices),
        "poison_rate": planted.poison_rate,
        "indices": planted.indices.tolist(),
        "covers": planted.covers.tolist(),
        "seed": seed,
    }
    folder = make_folder(Path(out))
    stream = io.BytesIO()
    np.savez_compressed(stream, x=planted.dataset.images, y=planted.dataset.labels)
    write_bytes(folder / DATA_NAME, stream.getvalue())
    write_json(folder / RECORD_NAME, record)
    events("backdoor_planted", {"count": len(planted.indices), "digest": planted.dataset.digest})
    return PlantResult(folder, record)
