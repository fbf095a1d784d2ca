"""Layers made without moving the global generator."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def new_layer(kind: type[nn.Module], *shape: Any, **settings: Any) -> nn.Module:
    """A layer whose constructor leaves the global generator as it was; its weights are for the caller to overwrite.

    `nn.utils.skip_init` goes by way of a meta device, which imports sympy: half a second of every command.
    """
    with torch.random.fork_rng(devices=[]):
        return kind(*shape, **settings)
