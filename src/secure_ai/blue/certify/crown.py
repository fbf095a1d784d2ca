"""CROWN-IBP (Zhang et al., 1906.06316): linear bounds backward from the last layer, over interval bounds of the rest.

The difference of two logits is bounded from below by a linear function of each layer's input in turn, down to the
pixels, where a box has an exact minimum. Only ReLU and max-pooling are relaxed, between the bounds that intervals give;
every other layer is affine and passes exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.certify.interval import Box, Passed, margins_after, rounding_of_a_difference, trace

BATCH = 50  # images at once: a linear function a class of each, as large as the widest layer


@dataclass(frozen=True, slots=True)
class LinearBound:
    """A lower bound for every image and class: `slope` (N, K, ...) times a layer's values, plus `offset` (N, K)."""

    slope: Tensor
    offset: Tensor

    def of(self, slope: Tensor, more: Tensor) -> LinearBound:
        """The bound in terms of the layer before: its slope, and what is added to the offset."""
        return LinearBound(slope, self.offset + more)


def crown_margins(
    layers: Sequence[nn.Module], box: Box, y: Tensor, slack: float = 0.0, clean: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Lower bounds of logit y minus logit k for every class k, (N, K) each: by intervals alone, and by CROWN-IBP.

    Args:
        layers: the last is `nn.Linear`; the others, `box`, `slack` and `clean` as of `interval.trace`. What a layer
            may be off by `slack` counts at every layer with the slope that it has there.
        y: (N,) int64.
    """
    last = layers[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError("the last layer must be linear")
    passed = list(trace(layers[:-1], box, slack, clean))
    before = passed[-1].after if passed else box
    by_intervals = margins_after(last, before, y, slack)
    slope = last.weight[y][:, None] - last.weight[None]  # (N, K, F)
    offset = slope.new_zeros(slope.shape[:2])
    if last.bias is not None:
        offset = last.bias[y][:, None] - last.bias[None]
    bound = LinearBound(slope, offset)
    for step in reversed(passed):
        bound = _through(step, bound)
    lowest = _lowest(bound, *box)
    if slack:
        lowest = lowest - rounding_of_a_difference(last, before, slack)
    return by_intervals, lowest.scatter(1, y[:, None], 0.0)


def margins(layers: Sequence[nn.Module], box: Box, y: Tensor, slack: float = 0.0) -> Tensor:
    """The better of both bounds of `crown_margins`, (N, K): never below `interval.margins`."""
    return torch.maximum(*crown_margins(layers, box, y, slack))


def _lowest(bound: LinearBound, lower: Tensor, upper: Tensor) -> Tensor:
    """The least value over the box, (N, K)."""
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    return bound.offset + _dot(bound.slope, centre) - _dot(bound.slope.abs(), radius)


def _dot(slope: Tensor, values: Tensor) -> Tensor:
    """(N, K, ...) times (N, ...) or (1, ...) -> (N, K)."""
    return (slope * values[:, None]).flatten(2).sum(dim=2)


def _through(step: Passed, bound: LinearBound) -> LinearBound:
    layer, shape = step.layer, step.before[0].shape[1:]
    if step.wider is not None:
        bound = bound.of(bound.slope, -step.wider[:, None] * bound.slope.abs().flatten(2).sum(dim=2))
    if isinstance(layer, nn.ReLU):
        return _relu(bound, *step.before)
    if isinstance(layer, nn.MaxPool2d):
        return _max_pool(layer, bound, *step.before, step.after[0].shape[2:])
    if step.affine is not None:
        scale, shift = step.affine
        return bound.of(bound.slope * scale[:, None], _dot(bound.slope, shift.expand(1, *shape)))
    if isinstance(layer, nn.Dropout | nn.Dropout2d | nn.Identity):
        return bound
    if isinstance(layer, nn.Flatten):
        return bound.of(bound.slope.unflatten(2, shape), bound.offset.new_zeros(()))
    if isinstance(layer, nn.Linear):
        return bound.of(bound.slope @ layer.weight, _times(bound.slope, layer.bias))
    if isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str):
        return _convolution(layer, layer.padding, bound, shape)
    return _transposed(layer, bound, shape)  # average pooling, and what is done to pixels


def relu_lines(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slope of a line below ReLU through 0, and slope and offset of one above it, on [lower, upper].

    Below: the identity or 0, whichever leaves the smaller area (1811.00866, section 3.3).
    """
    active, unstable = lower >= 0, (lower < 0) & (upper > 0)
    above = torch.where(unstable, upper / (upper - lower).clamp_min(torch.finfo(upper.dtype).tiny), active.to(upper))
    below = torch.where(unstable, (upper >= -lower).to(upper), active.to(upper))
    return below, above, torch.where(unstable, -above * lower, torch.zeros_like(lower))


def _relu(bound: LinearBound, lower: Tensor, upper: Tensor) -> LinearBound:
    below, above, height = relu_lines(lower, upper)
    rising, falling = bound.slope.clamp_min(0), bound.slope.clamp_max(0)
    return bound.of(rising * below[:, None] + falling * above[:, None], _dot(falling, height))


def _max_pool(layer: nn.MaxPool2d, bound: LinearBound, lower: Tensor, upper: Tensor, size: torch.Size) -> LinearBound:
    """Below: the value with the highest lower bound. Above: the same where no other can exceed it, else a constant."""
    index = _windows(layer, lower.shape[2:], size, lower.device)  # (window, positions); 0: padding
    lows, highs = (_at(values, index) for values in (lower, upper))
    highest, chosen = lows.max(dim=2, keepdim=True)
    alone = highs.scatter(2, chosen, -torch.inf).amax(dim=2) <= highest.squeeze(2)  # (N, C, positions)
    place = index.expand(*lows.shape).gather(2, chosen).squeeze(2) - 1
    slope = bound.slope.flatten(3)
    rising, falling = slope.clamp_min(0), slope.clamp_max(0)
    kept = rising + falling * alone[:, None]
    spread = slope.new_zeros(*slope.shape[:3], lower.shape[2] * lower.shape[3])
    spread = spread.scatter_add(3, place[:, None].expand_as(kept), kept)
    constant = torch.where(alone, torch.zeros_like(highest.squeeze(2)), highs.amax(dim=2))
    return bound.of(spread.unflatten(3, lower.shape[2:]), _dot(falling, constant))


def _windows(layer: nn.MaxPool2d, shape: torch.Size, size: torch.Size, device: torch.device) -> Tensor:
    """Which pixels, counted from 1, each window holds: (pixels of a window, windows); 0 stands for padding."""
    height, width = shape
    numbers = torch.arange(1, height * width + 1, dtype=torch.float64, device=device).view(1, 1, height, width)
    kernel, stride, padding, dilation = (
        value if isinstance(value, tuple) else (value, value)
        for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    ends = [
        max(0, (size[d] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1 - shape[d] - padding[d]) for d in (0, 1)
    ]  # `ceil_mode` may reach beyond the padding
    padded = functional.pad(numbers, (padding[1], ends[1], padding[0], ends[0]))
    rows = padded.unfold(2, dilation[0] * (kernel[0] - 1) + 1, stride[0])[..., :: dilation[0]]
    cells = rows.unfold(3, dilation[1] * (kernel[1] - 1) + 1, stride[1])[..., :: dilation[1]]
    return cells[0, 0, : size[0], : size[1]].flatten(2).flatten(0, 1).T.long().contiguous()


def _at(values: Tensor, index: Tensor) -> Tensor:
    """(N, C, H, W) at `index` (window, positions): (N, C, window, positions); -inf in the padding."""
    flat = functional.pad(values.flatten(2), (1, 0), value=-torch.inf)
    return flat[:, :, index]


def _convolution(layer: nn.Conv2d, padding: tuple[int, ...], bound: LinearBound, shape: torch.Size) -> LinearBound:
    slope, missing = bound.slope, []
    for d in (0, 1):  # rows and columns that no window reached
        reach = layer.dilation[d] * (layer.kernel_size[d] - 1) + 1
        missing.append(shape[d + 1] + 2 * padding[d] - reach - (slope.shape[d + 3] - 1) * layer.stride[d])
    before = functional.conv_transpose2d(
        slope.flatten(0, 1), layer.weight, None, layer.stride, padding, missing, layer.groups, layer.dilation
    )
    return bound.of(before.unflatten(0, slope.shape[:2]), _times(slope.sum(dim=(3, 4)), layer.bias))


def _times(slope: Tensor, bias: Tensor | None) -> Tensor:
    """(N, K, C) times a bias (C,), where there is one -> (N, K)."""
    return slope.new_zeros(()) if bias is None else slope @ bias


def _transposed(layer: nn.Module, bound: LinearBound, shape: torch.Size) -> LinearBound:
    """Through any affine layer: its gradient is its transpose, and its value at 0 its offset."""
    zero = bound.slope.new_zeros(len(bound.slope) * bound.slope.shape[1], *shape)
    with torch.enable_grad():
        out = layer(zero.requires_grad_())
    constant = _dot(bound.slope, out[:1].detach())
    (before,) = torch.autograd.grad(out, zero, bound.slope.flatten(0, 1), create_graph=torch.is_grad_enabled())
    return bound.of(before.unflatten(0, bound.slope.shape[:2]), constant)
