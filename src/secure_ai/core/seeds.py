"""Seeds: every random draw comes from a generator named by what it is for, never from a global one."""

from __future__ import annotations

import hashlib

import torch

MAX_SEED = 2**63 - 1


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on every part and on nothing else.

    Args:
        parts: e.g. (run seed, attack name, first index); compared by their text.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & MAX_SEED


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by `derive_seed(*parts)`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
