"""What a network answers on a data set: predictions, loss, confusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from secure_ai.core.errors import EmptyDataError, TargetError
from secure_ai.core.results import Rate, rate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float

EVALUATION_BATCH = 500


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions (N,) int64, labels (N,) int64, mean cross-entropy, and K."""

    predictions: np.ndarray
    labels: np.ndarray
    loss: float
    num_classes: int

    @property
    def accuracy(self) -> Rate:
        """Share of right predictions."""
        return rate(int((self.predictions == self.labels).sum()), len(self.labels))

    def accuracy_of(self, label: int) -> Rate:
        """The same among the samples of one true label."""
        chosen = self.labels == label
        return rate(int((self.predictions[chosen] == label).sum()), int(chosen.sum()))

    @property
    def confusion(self) -> list[list[int]]:
        """(K, K) counts, row = true label, column = prediction."""
        return counted(self.labels, self.predictions, self.num_classes)


def counted(labels: np.ndarray, predictions: np.ndarray, classes: int) -> list[list[int]]:
    """(K, K) counts of (N,) labels and predictions, row = true label, column = prediction."""
    cells = np.bincount(labels * classes + predictions, minlength=classes**2)
    return [[int(count) for count in row] for row in cells.reshape(classes, classes)]


def evaluate(target: NetworkTarget, images: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Run the target in float32 over `images`, in its evaluation mode.

    Args:
        images: (N, C, H, W) uint8, or float32 in [0, 1].
        labels: (N,) int64.

    Raises:
        EmptyDataError: N is 0.
    """
    if len(images) == 0:
        raise EmptyDataError("nothing to evaluate", expected="at least one sample")
    total, predictions = 0.0, []
    with target.attacked(), torch.no_grad():
        for start in range(0, len(images), EVALUATION_BATCH):
            chosen = slice(start, start + EVALUATION_BATCH)
            logits = target.logits(images_to_float(images[chosen])).cpu()
            if not bool(torch.isfinite(logits).all()):
                raise TargetError("the network answers NaN or infinity", where=target.name, expected="finite logits")
            y = torch.from_numpy(np.array(labels[chosen], dtype=np.int64))
            total += float(functional.cross_entropy(logits, y, reduction="sum"))
            predictions.append(logits.argmax(dim=1).numpy())
    return Evaluation(np.concatenate(predictions), np.asarray(labels), total / len(images), target.num_classes)


def mean_probability(target: NetworkTarget, images: np.ndarray, label: int) -> float:
    """The mean softmax probability of `label` over `images` (N, C, H, W). Raises EmptyDataError where N is 0."""
    if len(images) == 0:
        raise EmptyDataError("nothing to evaluate", expected="at least one sample")
    total = 0.0
    with target.attacked(), torch.no_grad():
        for start in range(0, len(images), EVALUATION_BATCH):
            logits = target.logits(images_to_float(images[start : start + EVALUATION_BATCH]))
            total += float(logits.softmax(dim=1)[:, label].sum())
    return total / len(images)
