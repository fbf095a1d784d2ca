"""A few adversarial examples to look at: clean image, magnified perturbation, what came out, and what was predicted."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.suite.verify import checked_logits

COLUMNS = 8


def spread_over_classes(labels: np.ndarray, allowed: np.ndarray, count: int = COLUMNS) -> np.ndarray:
    """Positions of up to `count` samples among the `allowed` (N,) bool: one a class first, in order, then the rest.

    Chosen by label and position only, never by how well an attack did.
    """
    places = np.flatnonzero(allowed)
    first = [int(places[labels[places] == label][0]) for label in np.unique(labels[places])]
    rest = [int(place) for place in places if int(place) not in set(first)]
    return np.sort(np.array([*first, *rest][:count], dtype=np.int64))


def gallery(
    target: NetworkTarget, dataset: Dataset, chosen: np.ndarray, x_adv: np.ndarray, name: str, title: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One row group of a picture: what to write under it, and its images.

    Args:
        chosen: (M,) positions in `dataset`.
        x_adv: (M, C, H, W) float32, their examples.
        name: of the network or the attack.

    Returns:
        (captions as JSON, arrays `clean` and `x_adv` (M, C, H, W) float32).
    """
    clean = images_to_float(dataset.images[chosen])
    captions = {
        "name": name,
        "title": title,
        "index": [int(number) for number in dataset.indices[chosen]],
        "labels": [int(label) for label in dataset.labels[chosen]],
        "clean": _answers(target, clean),
        "adversarial": _answers(target, torch.from_numpy(np.array(x_adv))),
    }
    return captions, {"clean": clean.numpy(), "x_adv": np.asarray(x_adv, dtype=np.float32)}


def _answers(target: NetworkTarget, images: torch.Tensor) -> list[dict[str, Any]]:
    """Predicted class and its softmax probability, float32."""
    with target.attacked(), torch.no_grad():
        probabilities = checked_logits(target, images).softmax(dim=1)
    top = probabilities.max(dim=1)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [{"label": label, "confidence": round(confidence, 4)} for label, confidence in pairs]


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as an NPZ file; equal arrays have equal bytes."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]  # names of arrays, not of options
    return stream.getvalue()
