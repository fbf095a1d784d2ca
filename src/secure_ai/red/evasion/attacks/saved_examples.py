"""An attack that reads what was made earlier: `suite/borrowed.py` binds it to a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from secure_ai.core.errors import AttackSettingsError
from secure_ai.red.evasion.contract import AttackEntry, Shard, on_shard


@on_shard
def saved_examples(shard: Shard, *, lookup: Mapping[bytes, Tensor]) -> None:
    """Examples made earlier, found by their clean image; an image without one comes back as it is.

    Args:
        lookup: `image_key` of a clean image to its example (C, H, W) float32.
    """
    best = shard.best
    for index in best.active.tolist():
        best.x_adv[index] = lookup.get(image_key(best.x[index]), best.x[index]).to(best.x.device)


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
