"""An architecture built from scratch, for clean networks to compare with."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace

import torch
from torch import nn

from secure_ai.models.load.store import LoadedModel
from secure_ai.models.networks.built_in import NETWORKS, build_network, torch_initialise
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.runs.backdoors.fleet import Build
from secure_ai.runs.user_model import fed


def anew(loaded: LoadedModel) -> tuple[Build | None, str]:
    """How the architecture is built with random weights, and its identity; None where it cannot be.

    Built-in networks, and those whose only weights are those of Conv2d and Linear layers, which torch's own
    initialisation then fills.
    """
    if loaded.arch in NETWORKS:
        return lambda draws: build_network(loaded.arch, generator=draws), loaded.arch
    network = loaded.network
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    known = {id(value) for layer in layers for value in layer.parameters()}
    values = [*network.parameters(), *network.buffers()]
    if not values or any(id(value) not in known for value in values):
        return None, ""

    def build(draws: torch.Generator) -> nn.Module:
        fresh = copy.deepcopy(network).cpu()
        for value in fresh.parameters():
            value.requires_grad_(True)
        torch_initialise(fresh, draws)
        return fresh

    return build, hashlib.sha256(repr(network).encode()).hexdigest()


def fed_alike(target: NetworkTarget, build: Build | None, identity: str) -> tuple[Build | None, str]:
    """The same, of networks that are given pixels as the target's is: with its mean, std and range."""
    if build is None or target.transform == InputTransform():
        return build, identity
    return lambda draws: fed(replace(target, network=build(draws))), f"{identity} {target.transform!r}"
