"""What an attack maximises: one value a sample, (N,).

Callers take the sum, so that no sample's gradient depends on how many share its batch. Shapes throughout: logits (N, K)
float, y and target_label (N,) int64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]

MIN_CLASSES_FOR_DLR = 4  # below this the ratio's denominator is not defined for both DLR losses; the margin stands in
TINY = 1e-12
SMALLEST = torch.finfo(torch.float32).tiny


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each sample, (N,), >= 0."""
    return functional.cross_entropy(logits, y, reduction="none")


def _of(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None]).squeeze(1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest logit of another class minus the true one, (N,); above 0: misclassified. Minus infinity where K is 1."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.max(dim=1).values - _of(logits, y)


def margin_targeted(logits: Tensor, y: Tensor, target_label: Tensor) -> Tensor:
    """Logit of `target_label` minus that of `y`, (N,)."""
    return _of(logits, target_label) - _of(logits, y)


def _floor(logits: Tensor) -> Tensor:
    """What keeps a ratio finite where its denominator is 0, (R,): relative to the logits' own spread."""
    values = logits.detach()
    return (TINY * (values.amax(dim=1) - values.amin(dim=1))).clamp_min(SMALLEST)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference-of-logits ratio (2003.01690, eq. 6), (N,): the margin over (largest minus third largest logit).

    Invariant to shift and scale of the logits. With fewer than 4 classes it is the plain margin.
    """
    if logits.shape[1] < MIN_CLASSES_FOR_DLR:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + _floor(logits))


def dlr_targeted(logits: Tensor, y: Tensor, target_label: Tensor) -> Tensor:
    """Targeted difference-of-logits ratio (2003.01690, eq. 7), (N,): high when `target_label` beats `y`.

    The denominator is the largest logit minus the mean of the third and fourth. With fewer than 4 classes it is the
    plain difference of the two logits.
    """
    difference = margin_targeted(logits, y, target_label)
    if logits.shape[1] < MIN_CLASSES_FOR_DLR:
        return difference
    top = logits.topk(4, dim=1).values
    return difference / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + _floor(logits))
