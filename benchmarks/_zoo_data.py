"""What the zoo's networks are trained and judged on besides MNIST: colour, few classes, many classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from _package import Dataset, random_order

FEW = 3
DARKEST_TINT = 128  # of 255: no channel of a tint is darker, so that every digit stays visible


def as_it_is(dataset: Dataset) -> Dataset:
    return dataset


def tinted(dataset: Dataset) -> Dataset:
    """Every digit in a colour of its own: (N, 3, H, W); the colour says nothing of the label."""
    n = len(dataset)
    order = np.stack([random_order(n, "zoo-tint", channel) for channel in range(3)], axis=1)
    tints = DARKEST_TINT + order * (256 - DARKEST_TINT) // n  # (N, 3)
    images = (dataset.images.astype(np.uint16) * tints[:, :, None, None].astype(np.uint16) // 255).astype(np.uint8)
    return Dataset(
        images, dataset.labels, f"{dataset.name}, tinted", dataset.classes, dataset.note, drawn=dataset.drawn
    )


def few_classes(dataset: Dataset) -> Dataset:
    """The images of the first three classes."""
    kept = np.flatnonzero(dataset.labels < FEW)
    images, labels = dataset.images[kept], dataset.labels[kept]
    return Dataset(images, labels, f"{dataset.name}, {FEW} classes", FEW, dataset.note, drawn=dataset.drawn)


def side_by_side(dataset: Dataset) -> Dataset:
    """Each image with another one to its right: (N, 1, H, 2 W), and a class for every pair of digits, 100 in all."""
    partner = random_order(len(dataset), "zoo-pairs")
    images = np.concatenate([dataset.images, dataset.images[partner]], axis=3)
    labels = dataset.labels * dataset.classes + dataset.labels[partner]
    classes = dataset.classes**2
    return Dataset(images, labels, f"{dataset.name}, in pairs", classes, dataset.note, drawn=dataset.drawn)


VARIANTS: dict[str, Callable[[Dataset], Dataset]] = {
    "mnist": as_it_is,
    "tinted": tinted,
    "few": few_classes,
    "pairs": side_by_side,
}
