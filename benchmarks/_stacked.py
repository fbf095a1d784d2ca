"""Many networks of one architecture at once, in batched matrix products: on a GPU far faster than one by one.

The same function as `models.networks.built_in`, with a first axis for the network; a test compares them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _package import NETWORKS
from torch import Tensor, nn
from torch.nn import functional

PADDING = {"report1-cnn": 0, "report2-cnn": 1}
POOLED_FIRST = {"report1-cnn"}  # pools after both convolutions; the other after the second only


class _Convolution(torch.autograd.Function):
    """3x3 convolution as a matrix product: (M, N, H, W, C) and (M, 9 C, O) to (M, N, h, w, O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        height, width = x.shape[2] - 2, x.shape[3] - 2
        columns = torch.cat([x[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)], dim=4)
        flat = columns.flatten(1, 3)
        ctx.save_for_backward(flat if ctx.needs_input_grad[1] else flat[:0], matrix)
        ctx.size = (*x.shape[:2], height, width, x.shape[4])
        return torch.baddbmm(bias[:, None], flat, matrix).view(*x.shape[:2], height, width, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        flat, matrix = ctx.saved_tensors
        upper = gradients[0].flatten(1, 3)
        of_x = of_matrix = of_bias = None
        if ctx.needs_input_grad[1]:
            of_matrix, of_bias = flat.transpose(1, 2) @ upper, upper.sum(dim=1)
        if ctx.needs_input_grad[0]:
            models, n, height, width, channels = ctx.size
            pieces = (upper @ matrix.transpose(1, 2)).view(models, n, height, width, 9, channels)
            of_x = upper.new_zeros(models, n, height + 2, width + 2, channels)
            for k in range(9):
                of_x[:, :, k // 3 : k // 3 + height, k % 3 : k % 3 + width] += pieces[..., k, :]
        return of_x, of_matrix, of_bias


def _convolved(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    matrix = weight.permute(0, 3, 4, 2, 1).flatten(1, 3)  # (M, O, C, 3, 3) -> (M, 9 C, O)
    padded = functional.pad(x, (0, 0, padding, padding, padding, padding)) if padding else x
    found: Tensor = _Convolution.apply(padded, matrix, bias)  # type: ignore[no-untyped-call]
    return found


def _pooled(x: Tensor) -> Tensor:
    own = functional.max_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), 2)
    back: Tensor = own.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
    return back


def forward(arch: str, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits (M, N, K) of M networks, each on its own images (M, N, C, H, W)."""
    padding = PADDING[arch]
    x = _convolved(x.permute(0, 1, 3, 4, 2), weights["conv1.weight"], weights["conv1.bias"], padding)
    x = functional.relu(_pooled(x) if arch in POOLED_FIRST else x)
    x = functional.relu(_pooled(_convolved(x, weights["conv2.weight"], weights["conv2.bias"], padding)))
    x = x.permute(0, 1, 4, 2, 3).flatten(2)
    x = functional.relu(torch.baddbmm(weights["dense1.bias"][:, None], x, weights["dense1.weight"].transpose(1, 2)))
    return torch.baddbmm(weights["dense2.bias"][:, None], x, weights["dense2.weight"].transpose(1, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """M networks; `flat` (M, parameters) float32 holds all weights, in the order of the network's state."""

    arch: str
    flat: Tensor

    def weights(self, flat: Tensor | None = None) -> dict[str, Tensor]:
        """By name, each with a first axis for the network; views of `flat`."""
        own, found, start = self.flat if flat is None else flat, {}, 0
        for name, value in _shapes(self.arch).items():
            found[name] = own[:, start : start + value.numel()].unflatten(1, value.shape)
            start += value.numel()
        return found

    def logits(self, x: Tensor) -> Tensor:
        """(M, N, C, H, W) -> (M, N, K)."""
        return forward(self.arch, self.weights(), x)

    def part(self, start: int, stop: int) -> Stack:
        """Some of the networks."""
        return Stack(self.arch, self.flat[start:stop])

    def network(self, index: int, device: torch.device) -> nn.Module:
        """One of them as a network of its own, in evaluation mode."""
        network = copy.deepcopy(_EMPTY[self.arch])
        state = {name: value[0] for name, value in self.part(index, index + 1).weights().items()}
        network.load_state_dict(state)
        return network.to(device).eval()


_EMPTY = {name: entry.network() for name, entry in NETWORKS.items()}


def _shapes(arch: str) -> dict[str, Tensor]:
    return _EMPTY[arch].state_dict()


def stacked(arch: str, networks: Sequence[nn.Module], device: torch.device) -> Stack:
    """Networks side by side on `device`."""
    rows = [torch.cat([value.flatten() for value in network.state_dict().values()]) for network in networks]
    return Stack(arch, torch.stack(rows).to(device))
