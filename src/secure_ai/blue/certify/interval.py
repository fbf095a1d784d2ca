"""Interval bound propagation (IBP; Gowal et al., 1810.12715, section 3; Mirman et al., ICML 2018).

A box of inputs [lower, upper] goes through the network layer by layer; what comes out holds every output that an input
of the box can give. The last layer is merged with the difference of two logits, which is tighter (1810.12715, eq. 5).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.certify.layers import Feed, layers_of
from secure_ai.core.compute import device_of
from secure_ai.core.errors import ArchError

SLACK = 1e-6  # outward, relative to the largest bound of a layer (at least to 1): more than float32 rounds one value
UNIT = 2.0**-24  # of float32: what a sum rounds grows with its terms

Box = tuple[Tensor, Tensor]


class Passed(NamedTuple):
    """One layer that a box went through.

    Attributes:
        before, after: the box.
        affine: scale and shift of batch normalisation.
        wider: by how much `after` was widened, (N,); None: not at all.
    """

    layer: nn.Module
    before: Box
    after: Box
    affine: Box | None
    wider: Tensor | None


def trace(layers: Sequence[nn.Module], box: Box, slack: float = 0.0, clean: Tensor | None = None) -> Iterator[Passed]:
    """The box on its way through `layers`.

    Args:
        box: lower and upper, (N, ...) each.
        slack: widens every box, see `_rounding`; 0: not at all.
        clean: the same images without a budget, where batch normalisation is in training mode: its statistics are
            theirs (and its running averages move once).
    """
    if not any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in layers):
        clean = None  # nothing asks for it, and a pass costs time
    for layer in layers:
        before, affine, wider = box, None, None
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            if isinstance(layer, nn.BatchNorm1d) and box[0].dim() != 2:
                expected, got = "(N, F) before it", tuple(box[0].shape)
                raise ArchError("bounds know BatchNorm1d of vectors", where="BatchNorm1d", expected=expected, got=got)
            affine = _normalisation(layer, clean)
            box = _normalised(box, *affine)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            box = _linear(layer, box)
        elif isinstance(layer, Feed):  # each value alone, rising or falling
            ends = layer(box[0]), layer(box[1])
            box = torch.minimum(*ends), torch.maximum(*ends)
        elif not isinstance(layer, nn.Dropout | nn.Dropout2d):  # ReLU, pooling, flattening: monotone
            box = layer(box[0]), layer(box[1])
        clean = None if clean is None else layer(clean)
        if slack:
            wider = _rounding(layer, before, box, slack)
            shaped = wider.view(-1, *(1,) * (box[0].dim() - 1))
            box = box[0] - shaped, box[1] + shaped
        yield Passed(layer, before, box, affine, wider)


def propagate(layers: Sequence[nn.Module], box: Box, slack: float = 0.0, clean: Tensor | None = None) -> Box:
    """The box after `layers`; arguments as of `trace`."""
    for passed in trace(layers, box, slack, clean):
        box = passed.after
    return box


def _rounding(layer: nn.Module, before: Box, after: Box, slack: float) -> Tensor:
    """By how much float32 inference may leave `after`, (N,).

    A sum of n products rounds by at most n UNIT (|W| |x| + |b|), in whatever order it is made (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., eq. 3.3 to 3.5).
    """
    off = slack * _largest(after).flatten(1).amax(dim=1).clamp_min(1.0)
    if isinstance(layer, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        terms = before[0][0, 0].numel() + 1  # at most: all of a channel
        averages: Tensor = layer(_largest(before))
        return off + terms * UNIT * averages.flatten(1).amax(dim=1)
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return off
    bias = None if layer.bias is None else layer.bias.abs()
    terms = layer.weight[0].numel() + 1
    return off + terms * UNIT * _weighted(layer, _largest(before), layer.weight.abs(), bias).flatten(1).amax(dim=1)


def _largest(box: Box) -> Tensor:
    return torch.maximum(box[0].abs(), box[1].abs())


def _weighted(layer: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `layer` makes of x with other weights."""
    if isinstance(layer, nn.Linear):
        return functional.linear(x, weight, bias)
    return functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _linear(layer: nn.Conv2d | nn.Linear, box: Box) -> Box:
    return _affine(
        box,
        lambda x: _weighted(layer, x, layer.weight, layer.bias),
        lambda r: _weighted(layer, r, layer.weight.abs(), None),
    )


def _normalised(box: Box, scale: Tensor, shift: Tensor) -> Box:
    return _affine(box, lambda x: x * scale + shift, lambda r: r * scale.abs())


def _affine(box: Box, centre_map: Callable[[Tensor], Tensor], radius_map: Callable[[Tensor], Tensor]) -> Box:
    centre, radius = centre_map((box[0] + box[1]) / 2), radius_map((box[1] - box[0]) / 2)
    return centre - radius, centre + radius


def _normalisation(layer: nn.BatchNorm1d | nn.BatchNorm2d, clean: Tensor | None) -> Box:
    """Batch normalisation as scale and shift, each shaped like (1, C, 1, 1) or (1, C)."""
    mean, variance = layer.running_mean, layer.running_var
    if layer.training and clean is not None:
        dims = [d for d in range(clean.dim()) if d != 1]
        mean, variance = clean.mean(dims), clean.var(dims, unbiased=False)
    if mean is None or variance is None:
        raise TypeError("batch normalisation without statistics")
    scale = (variance + layer.eps).rsqrt()
    shift = -mean * scale
    if layer.affine:
        scale = scale * layer.weight
        shift = layer.bias - mean * scale
    shape = (1, -1, 1, 1) if isinstance(layer, nn.BatchNorm2d) else (1, -1)
    return scale.view(shape), shift.view(shape)


def margins(
    layers: Sequence[nn.Module], box: Box, y: Tensor, slack: float = 0.0, clean: Tensor | None = None
) -> Tensor:
    """Lower bounds of logit y minus logit k for every class k, (N, K); 0 for y itself.

    Args:
        layers: the last is `nn.Linear`.
        y: (N,) int64.
    """
    last = layers[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError("the last layer must be linear")
    return margins_after(last, propagate(layers[:-1], box, slack, clean), y, slack)


def margins_after(last: nn.Linear, box: Box, y: Tensor, slack: float) -> Tensor:
    """`margins` from the box before the last layer."""
    centre, radius = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2
    logits = functional.linear(centre, last.weight, last.bias)
    pairs = (last.weight[:, None] - last.weight[None]).abs()  # (K, K, F)
    spread = torch.einsum("nkf,nf->nk", pairs[y], radius)
    bound = logits.gather(1, y[:, None]) - logits - spread
    if slack:
        bound = bound - rounding_of_a_difference(last, box, slack)
    return bound.scatter(1, y[:, None], 0.0)


def rounding_of_a_difference(last: nn.Linear, box: Box, slack: float) -> Tensor:
    """By how much float32 may be off in the difference of two logits, (N, 1)."""
    return 2 * _rounding(last, box, _linear(last, box), slack)[:, None]


Margins = Callable[[Sequence[nn.Module], Box, Tensor, float], Tensor]


@torch.no_grad()
def certified(
    network: nn.Module,
    lower: Tensor,
    upper: Tensor,
    y: Tensor,
    *,
    bound: Margins = margins,
    batch_size: int = 250,
) -> Tensor:
    """Whether every input between `lower` and `upper` is classified as `y`, (N,) bool: proven, in float64.

    Args:
        network: in evaluation mode; see `layers_of`.
        lower, upper: (N, C, H, W), as the network is fed.
        bound: lower bounds of the differences of logits, as `margins`.

    Raises:
        ArchError: a layer that bounds do not know, or weights in less than float32.
    """
    _refuse_coarse(network)
    exact, device = copy.deepcopy(network).eval().double(), device_of(network)
    layers = layers_of(exact)
    _refuse_other(layers, exact, lower[:8].to(device).double())
    parts = zip(lower.split(batch_size), upper.split(batch_size), y.split(batch_size), strict=True)
    found = []
    for low, high, label in parts:
        box, there = (low.to(device).double(), high.to(device).double()), label.to(device)
        others = bound(layers, box, there, SLACK).scatter(1, there[:, None], torch.inf)
        found.append(others.amin(dim=1) > 0)
    return torch.cat(found)


def _refuse_other(layers: Sequence[nn.Module], network: nn.Module, x: Tensor) -> None:
    """Whatever `layers_of` may have read wrongly: the layers in turn must compute what the network does."""
    expected, found = network(x.clone()), x
    for layer in layers:
        found = layer(found)
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-6, atol=1e-9):
        raise ArchError("the layers in turn compute something else", where="network", expected="a plain nn.Sequential")


def _refuse_coarse(network: nn.Module) -> None:
    """The slack covers what float32 rounds; float16 and bfloat16 round thousands of times more."""
    coarse = {value.dtype for value in network.parameters() if value.dtype in (torch.float16, torch.bfloat16)}
    if coarse:
        raise ArchError(
            "bounds hold for float32 or float64 arithmetic", where="network", expected="float32 or float64 weights",
            got=", ".join(sorted(map(str, coarse))), hint="certify network.float(), and use it so",
        )  # fmt: skip
