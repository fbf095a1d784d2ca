"""An attack that reads what was made earlier: `suite/borrowed.py` binds it to a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import AttackSettingsError
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.contract import AttackEntry
from secure_ai.red.evasion.math.active_set import Best


def saved_examples(
    target: Target,
    x: Tensor,
    y: Tensor,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    lookup: Mapping[bytes, Tensor],
    target_label: Tensor | None = None,
    active: Tensor | None = None,
) -> Tensor:
    """Examples made earlier, found by their clean image; an image without one comes back as it is.

    Args:
        target: not used; see `Attack`, as for all arguments down to `active`.
        lookup: `image_key` of a clean image to its example (C, H, W) float32.

    Returns:
        x_adv (N, C, H, W).
    """
    best = Best.of(x, y, target_label, active)
    for index in best.active.tolist():
        best.x_adv[index] = lookup.get(image_key(x[index]), x[index]).to(x.device)
    return best.x_adv


def image_key(image: Tensor) -> bytes:
    """What an image (C, H, W) float32 is found by: its bytes."""
    return bytes(image.cpu().contiguous().numpy().data)


def _unbound(*arguments: Any, **settings: Any) -> Tensor:
    raise AttackSettingsError("this attack needs a file", where="--attack", expected="bound plans")


ENTRY = AttackEntry(
    name="examples",
    attack=_unbound,
    norms=("linf", "l2", "l1", "l0"),
    knowledge="transfer",
    kind="minimal",  # made for another budget, perhaps: what lies outside this one does not count
    source="saved examples",
)
