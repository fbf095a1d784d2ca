"""An architecture built from scratch, for clean networks to compare with."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from types import CodeType, FunctionType, ModuleType, NoneType
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

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
RENEWED = (nn.Conv2d, nn.Linear, *NORMS)
OWN = frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})  # of those
REGISTERED = ("_parameters", "_buffers", "_modules")
PLAIN = (int, float, str, bytes, NoneType)


def anew(arch: str, network: nn.Module) -> tuple[Build | None, str]:
    """How the architecture is built with random weights, and its identity; where it cannot be: None, and why.

    Built-in networks, and those whose only weights are those of Conv2d, Linear and normalisation layers, which torch's
    own initialisation then fills. A tensor in a plain attribute would be copied from the suspect into every one.

    Args:
        arch: a built-in name; any other text says nothing.
        network: as preflight made it, e.g. with logits for probabilities: control networks answer in the same form.
    """
    if arch in NETWORKS:
        return lambda draws: build_network(arch, generator=draws), arch
    if why := _foreign(network):
        return None, why

    def build(draws: torch.Generator) -> nn.Module:
        fresh = copy.deepcopy(network).cpu()
        for value in fresh.parameters():
            value.requires_grad_(True)
        torch_initialise(fresh, draws)
        for layer in fresh.modules():
            if isinstance(layer, NORMS):
                layer.reset_parameters()
        return fresh

    return build, hashlib.sha256(repr(network).encode() + b"".join(map(_code, network.modules()))).hexdigest()


def _code(module: nn.Module) -> bytes:
    """What a module computes beside its layers: its class's functions, and plain values in its attributes."""
    classes = [kind for kind in type(module).__mro__ if kind not in nn.Module.__mro__]
    own = [getattr(kind, name, None) for kind in classes for name in sorted(vars(kind))]  # static methods are functions
    functions = [value.__code__ for value in own if isinstance(value, FunctionType)]
    values = {key: value for key, value in vars(module).items() if key != "training" and isinstance(value, PLAIN)}
    return b"".join(map(_said, functions)) + repr(sorted(values.items())).encode()


def _said(code: CodeType) -> bytes:
    """The same in every process, unlike the code object's own text."""
    inner = b"".join(_said(value) for value in code.co_consts if isinstance(value, CodeType))
    plain = [value for value in code.co_consts if isinstance(value, PLAIN)]
    return bytes(code.co_code) + repr((code.co_names, plain)).encode() + inner


def _foreign(network: nn.Module) -> str:
    """What cannot be made anew, by name; empty: nothing."""
    for name, module in network.named_modules():
        where = f"{name or 'the network'} ({type(module).__name__})"
        held = {key for key, value in (module._parameters | module._buffers).items() if value is not None}
        if held - (OWN if type(module) in RENEWED else frozenset()):
            return f"{where} holds weights; known: {', '.join(kind.__name__ for kind in RENEWED)}"
        if _holds_tensors({key: value for key, value in vars(module).items() if key not in REGISTERED}, set()):
            return f"{where} holds a tensor or a network in a plain attribute"
    return "" if any(True for _ in network.parameters()) else "the network has no weights"


def _holds_tensors(value: Any, seen: set[int]) -> bool:
    if isinstance(value, Tensor | np.ndarray | nn.Module):
        return True
    if id(value) in seen or isinstance(value, type | FunctionType | ModuleType):
        return False
    seen.add(id(value))
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list | tuple | set | frozenset):
        inner = getattr(value, "__dict__", {}).values()
    return any(_holds_tensors(one, seen) for one in inner)


def fed_alike(target: NetworkTarget, build: Build | None, identity: str) -> tuple[Build | None, str]:
    """The same, of networks that are given pixels as the target's is: with its mean, std and range."""
    if build is None or target.transform == InputTransform():
        return build, identity
    return lambda draws: fed(replace(target, network=build(draws))), f"{identity} {target.transform!r}"
