"""A few adversarial examples to look at: clean image, what came out, and what was predicted with which confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from secure_ai.core.sections import EXAMPLE_FIELDS, Picture
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.suite.verify import checked_logits

COLUMNS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row group of a picture: its title and its arrays by name of EXAMPLE_FIELDS."""

    title: str
    arrays: Mapping[str, np.ndarray]


def spread_over_classes(labels: np.ndarray, allowed: np.ndarray, count: int = COLUMNS) -> np.ndarray:
    """Positions of up to `count` samples among the `allowed` (N,) bool: one a class first, in order, then the rest.

    Chosen by label and position only, never by how well an attack did.
    """
    positions = np.flatnonzero(allowed)
    first = [int(positions[labels[positions] == label][0]) for label in np.unique(labels[positions])]
    rest = [int(position) for position in positions if int(position) not in set(first)]
    return np.sort(np.array([*first, *rest][:count], dtype=np.int64))


def gallery_row(title: str, target: NetworkTarget, dataset: Dataset, chosen: np.ndarray, x_adv: np.ndarray) -> Row:
    """The row of the images at the positions `chosen` (M,); `x_adv` (M, C, H, W) float32 are their examples."""
    clean = images_to_float(dataset.images[chosen])
    examples = np.asarray(x_adv, dtype=np.float32)
    clean_label, clean_confidence = _predicted(target, clean)
    adv_label, adv_confidence = _predicted(target, torch.from_numpy(np.array(examples)))
    values = (
        clean.numpy(), examples, np.asarray(dataset.indices[chosen]), np.asarray(dataset.labels[chosen]),
        clean_label, clean_confidence, adv_label, adv_confidence,
    )  # fmt: skip
    return Row(title, dict(zip(EXAMPLE_FIELDS, values, strict=True)))


def gallery(
    identifier: str, title: str, rows: Sequence[Row], class_names: tuple[str, ...] = ()
) -> tuple[tuple[Picture, ...], dict[str, np.ndarray]]:
    """The picture of `rows`, and its arrays by name, `ID-ROW-FIELD`; none where there is no row."""
    if not rows:
        return (), {}
    arrays = {
        f"{identifier}-{number}-{name}": value for number, row in enumerate(rows) for name, value in row.arrays.items()
    }
    titles = tuple(row.title for row in rows)
    picture = Picture(identifier, title, "examples", tuple(arrays), titles, class_names)
    return (picture,), arrays


def _predicted(target: NetworkTarget, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Predicted class (M,) int64 and its softmax probability (M,) float32."""
    with target.attacked(), torch.no_grad():
        probabilities = checked_logits(target, images).cpu().softmax(dim=1)
    top = probabilities.max(dim=1)
    return top.indices.numpy(), top.values.numpy()
