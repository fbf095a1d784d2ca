"""Random noise: the control that every real attack must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.active_set import Goal, Record, active_rows
from secure_ai.red.evasion.math.projections import random_start


@torch.no_grad()
def noise(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    draws: int = 1,
) -> Tensor:
    """Uniform noise in the ball, clipped to [0, 1]; one forward pass a draw.

    Where noise breaks what gradient attacks could not, their gradients are masked (1802.00420, section 3.1).

    Args:
        target: see `Attack`, as for all arguments down to `active`.
        draws: tries a sample; a broken sample gets no more.

    Returns:
        x_adv (N, C, H, W): the first draw that met the goal, else the one with the largest margin.
    """
    record = Record.empty(x)
    rows = active_rows(y, active)
    for _ in range(draws):
        x_adv = random_start(x, budget, generator)[rows]
        logits = target.logits(x_adv)
        goal = Goal(y, target_label).at(rows)
        strength = goal.strength(logits)
        record.offer(rows, x_adv, met=goal.met(logits), distance=torch.zeros_like(strength), strength=strength)
        rows = rows[torch.isinf(record.distance[rows])]
        if not len(rows):
            break
    return record.x_adv
