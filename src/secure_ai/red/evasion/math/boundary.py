"""The decision boundary nearest to an image, by linearisation: what FAB and DeepFool step towards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.hyperplane import dual_length
from secure_ai.red.evasion.math.input_gradient import leaf, slope
from secure_ai.red.evasion.math.losses import margin, margin_targeted

TINY = 1e-12


def nearest_boundary(
    target: Target, x_adv: Tensor, y: Tensor | None, aims: Sequence[Tensor], norm: Norm
) -> tuple[Tensor, Tensor]:
    """How much <normal, x> must rise to reach the nearest linearised boundary between `y` and one of `aims`.

    One forward and len(aims) backward passes (1511.04599, equation 8; 1907.02044, section 2.3).

    Args:
        x_adv: (R, C, H, W).
        y: (R,) the class to leave; None: whatever class leads beside the aim, where the aim itself must win.
        aims: classes (R,) each.
        norm: the one in which nearness is measured.

    Returns:
        gap (R,), below 0 where the boundary is behind; normal (R, D).
    """
    with torch.enable_grad():
        start = leaf(x_adv)
        logits = target.logits(start)
        leads = [-margin(logits, aim) if y is None else margin_targeted(logits, y, aim) for aim in aims]
    gap, normal = leads[0].detach().neg(), slope(leads[0], start, again=len(leads) > 1).flatten(1)
    nearest = gap.abs() / dual_length(normal, norm).clamp_min(TINY)
    for index, lead in enumerate(leads[1:], start=1):
        gradient = slope(lead, start, again=index < len(leads) - 1).flatten(1)
        away = lead.detach().abs() / dual_length(gradient, norm).clamp_min(TINY)
        closer = away < nearest
        nearest = torch.where(closer, away, nearest)
        gap = torch.where(closer, -lead.detach(), gap)
        normal = torch.where(closer[:, None], gradient, normal)
    return gap, normal
