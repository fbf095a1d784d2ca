"""Arrays to tensors, and the digest of a state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.core.compute import MEMORY_FORMAT
from secure_ai.core.errors import LabelError, PixelRangeError, ShapeError


def array_to_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of its own with the array's shape, type and values; the array may be read-only or big-endian."""
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def images_to_float(images: np.ndarray[Any, Any] | Tensor) -> Tensor:
    """Pixels in [0, 1].

    Args:
        images: (N, C, H, W) uint8, divided by 255 (the very values of Keras's `x.astype("float32") / 255`), or float32
            in [0, 1], taken as they are.

    Returns:
        (N, C, H, W) float32, never sharing memory with `images`.

    Raises:
        ShapeError: not four dimensions.
        PixelRangeError: another type, or a float outside [0, 1] (NaN included).
    """
    tensor = array_to_tensor(images) if isinstance(images, np.ndarray) else images.detach()
    if tensor.dim() != 4:
        raise ShapeError("images need four dimensions", expected="(N, C, H, W)", got=tuple(tensor.shape))
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.float32).div_(255)
    if tensor.dtype != torch.float32:
        raise PixelRangeError("pixels of an unsupported type", expected="uint8 or float32", got=tensor.dtype)
    if tensor.numel() and not bool((tensor.min() >= 0) & (tensor.max() <= 1)):
        got = f"{float(tensor.min()):g} to {float(tensor.max()):g}"
        raise PixelRangeError("pixels outside [0, 1]", expected="0 to 1", got=got)
    return tensor if isinstance(images, np.ndarray) else tensor.clone()


def labels_to_tensor(labels: np.ndarray[Any, Any] | Tensor) -> Tensor:
    """Labels as a tensor of its own, (N,) int64. Raises LabelError for other shapes and for what is no integer."""
    tensor = array_to_tensor(labels) if isinstance(labels, np.ndarray) else labels.detach().clone()
    if tensor.dim() != 1 or tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        got = f"{tuple(tensor.shape)} {tensor.dtype}"
        raise LabelError("labels must be whole numbers, one an image", expected="(N,) integers", got=got)
    return tensor.to(torch.int64)


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over every tensor's name, type, shape and values, in the order of the names.

    Memory format and device do not change it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        plain = tensor.dequantize() if tensor.is_quantized else tensor
        values = plain.detach().cpu().contiguous()
        # repr quotes the name, so that no name can imitate the end of another
        digest.update(f"{name!r} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensors_of_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict by name; those of packed weights, which quantised layers keep in tuples, too."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, tuple | list):
            found |= tensors_of_state({f"{name}.{place}": inner for place, inner in enumerate(value)})
    return found


def to_contiguous(network: nn.Module) -> nn.Module:
    """Lay out the network's 4-d weights as torch does by itself, in place; values are unchanged."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 4:  # `contiguous` would leave kernels of one channel as they are
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return network


def to_channels_last(network: nn.Module) -> nn.Module:
    """Lay out the network's 4-d weights for the memory format of `core.compute`, in place; values are unchanged.

    `Module.to(memory_format=...)` does the same but fails on a network that also has 5-d weights. `contiguous` will not
    do: kernels of one input channel pass for channels-last as they are, and the whole network then computes in the slow
    layout (a forward pass of report 1's network took twice as long).
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.to(memory_format=MEMORY_FORMAT)
    return network
