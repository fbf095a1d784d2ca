"""What every step of the preflight needs: its result, a target changed in one point, and calls that cannot crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from secure_ai.core.errors import SecureAIError, TargetError
from secure_ai.core.trust import Check
from secure_ai.models.target.target import InputTransform, Target

SAME = 1e-3  # answers that `difference` puts no further apart are the same

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found.

    Attributes:
        target: to be attacked instead of the one given, with fresh pass counters.
        checks: in the order to be shown; all pass on a sound network.
        fixes: what was put right, one sentence each.
        images, answers: (N, C, H, W) that were tried and what the target in its final form answers, (N, K).
    """

    target: Target
    checks: tuple[Check, ...]
    fixes: tuple[str, ...] = ()
    images: Tensor | None = None
    answers: Tensor | None = None


def rebuilt(
    target: Target,
    *,
    network: nn.Module | None = None,
    transform: InputTransform | None = None,
    num_classes: int | None = None,
    deterministic: bool | None = None,
) -> Target:
    """A target like this one, with fresh pass counters, but for what is given."""
    return Target(
        target.network if network is None else network,
        name=target.name,
        digest=target.digest,
        input_shape=target.input_shape,
        num_classes=target.num_classes if num_classes is None else num_classes,
        transform=target.transform if transform is None else transform,
        batch_size=target.batch_size,
        deterministic=target.deterministic if deterministic is None else deterministic,
        access=target.access,
    )


def guarded(target: Target, call: Callable[[Target], Result]) -> Result:
    """`call(target)`, frozen and in evaluation mode.

    Raises:
        TargetError: whatever the network raises, by its name, or the network changes its own weights.
    """
    try:
        with target.attacked():
            return call(target)
    except (SecureAIError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's network may raise anything
        raise TargetError(
            "the network raised an error",
            where=target.name,
            expected=f"an answer to images (N, {', '.join(map(str, target.input_shape))})",
            got=f"{type(error).__name__}: {error}",
            hint="is --arch the right factory, and does forward(x) take (N, C, H, W)?",
        ) from error


def scores(target: Target, x: Tensor) -> Tensor:
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
