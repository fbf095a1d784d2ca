"""Seeds: every random draw comes from a generator named by what it is for, never from a global one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

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
    return torch.Generator(device="cpu").manual_seed(derive_seed(*parts))


def seed_networks(seed: int, device: torch.device) -> None:
    """Seed what networks draw from in their forward pass, on the CPU and on `device`; to be put back by the caller."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


def kept_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Inside, anything may be drawn; torch's generators of the CPU and of `device` are then as before."""
    return torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else [])


def uniform(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Numbers in [0, 1), drawn on the CPU and moved: the same on every device."""
    return torch.rand(tuple(shape), generator=generator, device="cpu").to(device)


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Standard normal numbers, drawn on the CPU and moved: the same on every device."""
    return torch.randn(tuple(shape), generator=generator, device="cpu").to(device)
