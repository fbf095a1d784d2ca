"""What every step of the preflight needs: its result, a target changed in one point, and calls that cannot crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from secure_ai.core.errors import SecureAIError, TargetError
from secure_ai.core.statistics import mcnemar_exact, wilson
from secure_ai.core.trust import Check
from secure_ai.models.target.passes import PassCounter
from secure_ai.models.target.target import NetworkTarget

SAME = 1e-3  # answers that `difference` puts no further apart are the same
MIN_SAMPLES = 10
ALPHA = 0.001
CLEARLY_ABOVE_CHANCE = 0.25  # share of the way from chance to 1

Samples = tuple[Tensor, Tensor]
"""Images (N, C, H, W) and labels (N,)."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found.

    Attributes:
        target: to be attacked instead of the one given, with fresh pass counters.
        checks: in the order to be shown; all pass on a sound network.
        fixes: what was put right, and what the user should know, one sentence each.
        images, answers: (N, C, H, W) that were tried and what the target in its final form answers, (N, K).
    """

    target: NetworkTarget
    checks: tuple[Check, ...]
    fixes: tuple[str, ...] = ()
    images: Tensor | None = None
    answers: Tensor | None = None


def rebuilt(target: NetworkTarget, **changes: Any) -> NetworkTarget:
    """A target like this one, with fresh pass counters, but for what is given: see `NetworkTarget`."""
    return replace(target, passes=PassCounter(), watch=None, **changes)


def guarded(target: NetworkTarget, call: Callable[[NetworkTarget], Result]) -> Result:
    """`call(target)`, frozen and in evaluation mode.

    Raises:
        TargetError: whatever the network raises, by its name, or the network changes its own weights.
    """
    try:
        with target.attacked(by_value=False):  # `preflight` compares values once
            return call(target)
    except (SecureAIError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's network may raise anything
        raise TargetError(
            "the network raised an error",
            where=target.name,
            expected=f"an answer to images (N, {', '.join(map(str, target.input_shape))})",
            got=f"{type(error).__name__}: {error}",
            hint="is --arch the right factory, and does forward(x) take (N, C, H, W)? If only so many at once: "
            "--batch-size N",
        ) from error


def scores(target: NetworkTarget, x: Tensor) -> Tensor:
    """The target's answer to x: (N, C, H, W), without gradient: (N, K). Raises TargetError."""
    return guarded(target, lambda t: t.logits(x).detach())


def difference(a: Tensor, b: Tensor) -> float:
    """Largest difference of two answers (N, K), each relative to its own size, or to the usual lead where that is more.

    The lead is the best score's over the second best, the median over the images: beside one score of -1e9, which masks
    a class that is not used, all that the others do would be nothing.
    """
    best = a.topk(2, dim=1).values
    lead = (best[:, 0] - best[:, 1]).median()
    return float(((a - b).abs() / a.abs().clamp_min(lead.clamp_min(1e-12))).max())


def right(target: NetworkTarget, samples: Samples) -> Tensor:
    """Which samples are right (N,) bool. Raises TargetError."""
    return scores(target, samples[0]).argmax(dim=1) == samples[1]


def right_if_taken(target: NetworkTarget, samples: Samples) -> Tensor:
    """As `right`; none where the network raises on such pixels."""
    try:
        return right(target, samples)
    except TargetError:
        return samples[1] < 0


def compared(hits: Tensor, others: Tensor, way: str) -> str:
    """Both clean accuracies in words: as given, and `way`, e.g. `with --range 1,0`; (N,) bool each."""
    given, other, n = int(hits.sum()), int(others.sum()), len(hits)
    told = f"clean accuracy is {100 * given / n:.0f} % as given, {100 * other / n:.0f} % {way}"
    return f"{told} ({given} and {other} of {n} images)"


def chance_of(target: NetworkTarget, y: Tensor) -> float:
    """Accuracy of always answering the commonest label of (N,) `y`, at least 1 / K: that is no skill."""
    return max(1 / target.num_classes, int(torch.bincount(y).max()) / len(y))


def clearly_better(hits: Tensor, than: Tensor, comparisons: int, chance: float) -> bool:
    """Whether (N,) bool `hits` are more than the other's on the same samples, beyond chance and clearly above it.

    p alone would also prefer a little above chance to less than chance, as with labels in another order.
    """
    count, n = int(hits.sum()), len(hits)
    p = mcnemar_exact(int((than & ~hits).sum()), int((hits & ~than).sum()))
    good = wilson(count, n)[0] > chance + CLEARLY_ABOVE_CHANCE * (1 - chance)
    return count > int(than.sum()) and p < ALPHA / comparisons and good
