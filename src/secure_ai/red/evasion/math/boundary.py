"""The decision boundary nearest to an image, by linearisation: what FAB and DeepFool step towards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.hyperplane import dual_length
from secure_ai.red.evasion.math.input_gradient import input_gradient, requiring_grad
from secure_ai.red.evasion.math.losses import margin, margin_targeted
from secure_ai.red.evasion.math.scale import to_unit

TINY = 1e-12


def nearest_boundary(
    target: Target, x_adv: Tensor, y: Tensor | None, towards: Sequence[Tensor], norm: Norm
) -> tuple[Tensor, Tensor]:
    """How much <normal, x> must rise to reach the nearest linearised boundary between `y` and one of `towards`.

    One forward and len(towards) backward passes (1511.04599, equation 8; 1907.02044, section 2.3).

    Args:
        x_adv: (R, C, H, W).
        y: (R,) the class to leave; None: whatever class leads beside that class, which itself must win.
        towards: classes (R,) each.
        norm: the one in which nearness is measured.

    Returns:
        gap (R,), below 0 where the boundary is behind; normal (R, D); both times a power of two, so that the largest
        value of `normal` lies in [1/2, 1).
    """
    with torch.enable_grad():
        start = requiring_grad(x_adv)
        logits = target.logits(start)
        leads = [-margin(logits, to) if y is None else margin_targeted(logits, y, to) for to in towards]
    gap, normal, nearest = leads[0].detach(), start.detach().flatten(1), torch.full_like(leads[0].detach(), torch.inf)
    for index, lead in enumerate(leads):
        gradient = input_gradient(lead, start, retain_graph=index < len(leads) - 1).flatten(1)
        factor = to_unit(gradient)  # of both sides of <normal, delta> = gap
        gradient, missing = gradient * factor[:, None], -lead.detach() * factor
        away = missing.abs() / dual_length(gradient, norm).clamp_min(TINY)
        closer = away < nearest
        nearest = torch.where(closer, away, nearest)
        gap = torch.where(closer, missing, gap)
        normal = torch.where(closer[:, None], gradient, normal)
    return gap, normal
