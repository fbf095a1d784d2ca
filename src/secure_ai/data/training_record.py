"""What is kept of the data that a network was trained on: text in the model file, and a private file beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from secure_ai.data.dataset import Dataset

RECORD_SUFFIX = ".training.json"
RECORD_MODE = 0o600
FORMAT = "secure-ai training record 1"
NOTICE = "Not to be published: it tells whether an image was in the training data."

PLAIN_INPUT: Mapping[str, str] = {"input_mean": "[]", "input_std": "[]"}
"""Metadata of a network that was trained on pixels in [0, 1]."""


def training_metadata(dataset: Dataset) -> dict[str, str]:
    """What this tool writes into the safetensors file of a network that it trained on `dataset`, pixels in [0, 1]."""
    return {**PLAIN_INPUT, **data_metadata(dataset)}


def data_metadata(dataset: Dataset) -> dict[str, str]:
    """The part of `training_metadata` that says on what it was trained, not how pixels were prepared."""
    return {"training_data": dataset.digest, "training_n": str(len(dataset))}


def record_path(model: Path) -> Path:
    """Where the training record of a model file is: `FILE.training.json`."""
    return model.with_name(model.name + RECORD_SUFFIX)


def training_record(model_digest: str, dataset: Dataset, images: Sequence[str]) -> bytes:
    """The bytes of `FILE.training.json`, to be written with RECORD_MODE: a membership oracle.

    Args:
        dataset: what the user named.
        images: digests (`image_digests`) of those that were trained on.
    """
    content = {
        "format": FORMAT,
        "notice": NOTICE,
        "model": model_digest,
        "data": {"name": dataset.name, "digest": dataset.digest, "n": len(dataset)},
        "images": sorted(set(images)),
    }
    return (json.dumps(content, separators=(",", ":")) + "\n").encode()
