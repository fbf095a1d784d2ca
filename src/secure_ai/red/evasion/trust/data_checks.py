"""What the data alone allow to be claimed."""

from __future__ import annotations

import numpy as np

from secure_ai.core.trust import Check, check
from secure_ai.data.dataset import Dataset
from secure_ai.data.near_copies import NEAR

MOST_REPEATED = 0.01  # fraction of the images; MNIST has no two that are the same
DARKEST = 0.25  # fraction of full scale that some pixel reaches


def data_checks(dataset: Dataset) -> tuple[Check, ...]:
    """`random-sample`, `classes-in-data`, `distinct-images` and `full-range`: no network is asked."""
    return (
        _random_sample_check(dataset),
        _classes_check(dataset),
        _distinct_images_check(dataset),
        _full_range_check(dataset),
    )


def _random_sample_check(dataset: Dataset) -> Check:
    """Fails for the first N in file order: on one network PGD-40 gave 91 % on the first half and 96 % on the last."""
    evidence = dataset.note or "every image of the source"
    return check("random-sample", dataset.drawn != "first", evidence)


def _classes_check(dataset: Dataset) -> Check:
    """Fails where all images are of one class."""
    classes = np.unique(dataset.labels)
    evidence = f"{len(classes)} classes among {len(dataset)} images"
    if len(classes) < 2:
        evidence = f"every image is of class {classes[0]}: a network that always answers {classes[0]} would be robust"
    return check("classes-in-data", len(classes) > 1, evidence)


def _distinct_images_check(dataset: Dataset) -> Check:
    """Fails where near copies make the images worth less than all but MOST_REPEATED of them."""
    n, worth = len(dataset), dataset.n_effective
    evidence = (
        f"{n} images are worth {worth} independent ones (near copies count as one: l2 within {NEAR:.0%} of their "
        f"contrast); at most {MOST_REPEATED:.0%} may be lost"
    )
    return check("distinct-images", n - worth <= MOST_REPEATED * n, evidence)


def _full_range_check(dataset: Dataset) -> Check:
    """Fails where no pixel reaches a quarter of full scale: images of 17 grey levels as bytes, most likely."""
    full = 255 if dataset.images.dtype == np.uint8 else 1
    brightest = float(dataset.images.max())
    evidence = f"the brightest pixel is {brightest:g} of {full}; eps is a share of full scale"
    return check("full-range", brightest >= DARKEST * full, evidence)
