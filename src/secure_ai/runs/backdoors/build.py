"""An architecture built from scratch, for clean networks to compare with."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.models.networks.built_in import NETWORKS, build_network, torch_initialise
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.runs.backdoors.fleet import Build
from secure_ai.runs.user_model import fed

SHARED_CODE = "control networks run the model's own code: a backdoor in the code is in all of them and cannot be seen"


def anew(arch: str, network: nn.Module) -> tuple[Build | None, str]:
    """How the architecture is built with random weights, and its identity; None where it cannot be.

    Built-in networks, and those whose only weights are those of Conv2d and Linear layers, which torch's own
    initialisation then fills. A tensor in a plain attribute would be copied from the suspect into every one.

    Args:
        arch: a built-in name; any other text says nothing.
        network: as preflight made it, e.g. with logits for probabilities: control networks answer in the same form.
    """
    if arch in NETWORKS:
        return lambda draws: build_network(arch, generator=draws), arch
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    known = {id(value) for layer in layers for value in layer.parameters()}
    values = [*network.parameters(), *network.buffers()]
    if not values or any(id(value) not in known for value in values) or _keeps_tensors(network):
        return None, ""

    def build(draws: torch.Generator) -> nn.Module:
        fresh = copy.deepcopy(network).cpu()
        for value in fresh.parameters():
            value.requires_grad_(True)
        torch_initialise(fresh, draws)
        return fresh

    return build, hashlib.sha256(repr(network).encode()).hexdigest()


def _keeps_tensors(network: nn.Module) -> bool:
    """Whether a module has a tensor or an array that is neither parameter nor buffer."""
    registered = ("_parameters", "_buffers")
    own = [{name: value for name, value in vars(m).items() if name not in registered} for m in network.modules()]
    return _holds_tensors(own)


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_tensors, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_tensors, value))
    return isinstance(value, Tensor | np.ndarray)


def fed_alike(target: NetworkTarget, build: Build | None, identity: str) -> tuple[Build | None, str]:
    """The same, of networks that are given pixels as the target's is: with its mean, std and range."""
    if build is None or target.transform == InputTransform():
        return build, identity
    return lambda draws: fed(replace(target, network=build(draws))), f"{identity} {target.transform!r}"
