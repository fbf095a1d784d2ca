"""What an attack claims is checked here, by code that shares nothing with the attack.

Distances are taken again in float64 and predictions in float32. An attack that leaves the budget is a bug of the tool,
never a success: it ends the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import AttackOutputError, TargetError
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.contract import Kind

TOLERANCE = 1e-6  # absolute: a pixel moved by eps in float32; at l2 0.003 it is all that rounding needs
RELATIVE_TOLERANCE = 1e-5  # l2 and l1: rounding of many pixels


@dataclass(frozen=True, slots=True)
class Verified:
    """What the checks found, for the M samples that were worked on.

    Attributes:
        within: (M,) bool, inside the budget; only a minimum-norm attack may have some outside.
        moved: (M,) bool, not the clean image.
    """

    within: Tensor
    moved: Tensor


def allowed_distance(budget: PerturbationBudget) -> float:
    """The distance that still counts as eps: with the rounding that its norm is granted."""
    if budget.norm == "l0":
        return budget.eps
    relative = 0.0 if budget.norm == "linf" else RELATIVE_TOLERANCE
    return budget.eps * (1 + relative) + TOLERANCE


def measured_distance(x_adv: Tensor, x: Tensor, budget: PerturbationBudget) -> Tensor:
    """The distance of each sample in float64, (M,), in the budget's norm."""
    delta = (x_adv.double() - x.double()).flatten(1)
    if budget.norm == "l0":
        return torch.count_nonzero(delta, dim=1).double()
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[budget.norm]
    distance: Tensor = torch.linalg.vector_norm(delta, ord=order, dim=1)
    return distance


def verify(
    x_adv: object, x: Tensor, *, attack: str, budget: PerturbationBudget, kind: Kind, rows: Tensor, first: int
) -> Verified:
    """Check the result of an attack on one shard, on the CPU wherever it was made.

    Args:
        x_adv: what the attack returned for the whole shard; should be (N, C, H, W) float32.
        x: (N, C, H, W) float32, the clean images.
        attack: for messages.
        kind: a `minimal` attack may end outside eps (then the sample does not count), a `budget` attack may not.
        rows: (M,) the samples it worked on; the others are not looked at.
        first: number of the shard's first sample, for messages.

    Raises:
        AttackOutputError: wrong type, shape or dtype, NaN or infinity, outside [0, 1], or outside the budget.
    """
    if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        got = f"{x_adv.dtype} {tuple(x_adv.shape)}" if isinstance(x_adv, Tensor) else type(x_adv).__name__
        raise AttackOutputError(
            "the result is not a batch of images", where=attack, expected=f"{x.dtype} {tuple(x.shape)}", got=got
        )
    found, clean = x_adv.detach()[rows].cpu(), x[rows].cpu()
    names = [f"{attack}, sample {first + row}" for row in rows.tolist()]
    flat = found.flatten(1)
    _refuse(~torch.isfinite(flat).all(dim=1), names, "the result is not finite", "finite pixels", flat.sum(dim=1))
    furthest = torch.maximum(flat.amax(dim=1), 1 - flat.amin(dim=1))
    _refuse(furthest > 1, names, "the result leaves [0, 1]", "at most 1 from either end", furthest)
    distance, allowed = measured_distance(found, clean, budget), allowed_distance(budget)
    within = distance <= allowed
    if kind == "budget":
        _refuse(~within, names, "the result is outside the budget", f"{budget.norm} <= {allowed:.9g}", distance)
    return Verified(within, (found != clean).flatten(1).any(dim=1))


def _refuse(bad: Tensor, names: list[str], message: str, expected: str, measured: Tensor) -> None:
    """Raise for the first sample that is `bad` (M,) bool."""
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise AttackOutputError(message, where=names[first], expected=expected, got=f"{float(measured[first]):.9g}")


@torch.no_grad()
def checked_logits(target: Target, x: Tensor) -> Tensor:
    """Logits (N, K) in float32. Raises TargetError on NaN or infinity."""
    logits = target.logits(x)
    if not bool(torch.isfinite(logits).all()):
        raise TargetError("the network answers NaN or infinity", where=target.name, expected="finite logits")
    return logits
