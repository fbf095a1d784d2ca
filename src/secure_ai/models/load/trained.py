"""A built-in network with weights from a file that this tool wrote."""

from __future__ import annotations

import torch
from torch import nn

from secure_ai.files.open import FileBytes
from secure_ai.files.safetensors import read_safetensors
from secure_ai.models.load.beside import known_in
from secure_ai.models.load.state import fit_state
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import array_to_tensor, state_digest, to_channels_last


def trained_network(content: bytes, arch: str) -> nn.Module:
    """The network in evaluation mode.

    Args:
        content: of a safetensors file.
        arch: a built-in name.

    Raises:
        FormatError, StateMismatchError: not such a file, or weights that do not fit.
    """
    network = build_network(arch, generator=torch.Generator())
    tensors = read_safetensors(FileBytes(arch, content)).tensors
    fit_state(network, {name: array_to_tensor(value) for name, value in tensors.items()}, where=arch)
    return network.eval()


def trained_target(content: bytes, arch: str, name: str) -> NetworkTarget:
    """The network as something to attack, weights laid out for speed; raises as `trained_network` does."""
    network, entry = to_channels_last(trained_network(content, arch)), NETWORKS[arch]
    metadata = read_safetensors(FileBytes(arch, content)).metadata
    return NetworkTarget(
        network,
        name=name,
        digest=state_digest(network.state_dict()),
        input_shape=entry.input_shape,
        num_classes=entry.num_classes,
        known=known_in(metadata),
    )
