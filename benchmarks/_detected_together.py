"""The detectors of the model scan on many networks at once; each network's numbers are those it has alone.

`blue.backdoors.detectors.detect` is what they are compared with, in a test and on each device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from _package import (
    FORMS,
    NETWORKS,
    STARTS,
    Dataset,
    Found,
    Inverted,
    Searches,
    driven,
    every_class,
    every_pair,
    generator,
    images_to_float,
    of_classes,
    of_pairs,
    smallest,
    starts,
)
from _stacked import Stack
from torch import Tensor


def detect_together(stack: Stack, search: Sequence[Dataset], seeds: Sequence[int]) -> list[dict[str, Found]]:
    """For each network what every detector finds with its own images and seed."""
    classes, labels = NETWORKS[stack.arch].num_classes, [np.asarray(own.labels) for own in search]
    found: list[dict[str, Found]] = [{"margin": Found(values)} for values in _margins(stack, seeds, classes)]
    for name in ("mask", "additive"):
        form = FORMS[name]
        searches = [every_class(own, classes, form, seed) for own, seed in zip(labels, seeds, strict=True)]
        for one, inverted in zip(found, _inverted(stack, search, searches, name, seeds), strict=True):
            one[name] = of_classes(inverted)
    both = [every_pair(own, classes, FORMS["pair"], seed) for own, seed in zip(labels, seeds, strict=True)]
    changes = _inverted(stack, search, [searches for searches, _ in both], "pair", seeds)
    for one, inverted, (_, possible) in zip(found, changes, both, strict=True):
        one["pair"] = of_pairs(inverted, possible, classes)
    return found


def _through(stack: Stack, count: int) -> Callable[[Tensor], Tensor]:
    """(M * count, ..., C, H, W) -> (M * count, ..., K), `count` entries of each network."""

    def logits(x: Tensor) -> Tensor:
        own = x.reshape(len(stack.flat), -1, *x.shape[-3:])
        return stack.logits(own).reshape(*x.shape[:-3], -1)

    return logits


def _margins(stack: Stack, seeds: Sequence[int], classes: int) -> list[np.ndarray]:
    shape, device = NETWORKS[stack.arch].input_shape, stack.flat.device
    x = torch.cat([starts(classes, shape, seed, device) for seed in seeds])
    labels = torch.arange(classes, device=device).repeat_interleave(STARTS).repeat(len(seeds))
    best = driven(_through(stack, classes * STARTS), x, labels)
    return list(best.view(len(seeds), classes, STARTS).amax(dim=2).double().cpu().numpy())


def _inverted(
    stack: Stack, search: Sequence[Dataset], searches: Sequence[Searches], name: str, seeds: Sequence[int]
) -> list[Inverted]:
    form, device, count = FORMS[name], stack.flat.device, len(searches[0].targets)
    parts = [
        images_to_float(data.images[own.positions.ravel()]).view(*own.positions.shape, *data.input_shape)
        for data, own in zip(search, searches, strict=True)
    ]
    x = torch.cat(parts).to(device)
    wanted = torch.from_numpy(np.concatenate([own.targets for own in searches])).to(device)
    begun = [form.parameters(count, search[0].input_shape, generator(seed, "invert"), device) for seed in seeds]
    parameters = [torch.cat(values) for values in zip(*begun, strict=True)]
    sizes, kept, reached = smallest(_through(stack, count), x, wanted, form, parameters)
    arrays = [value.cpu().numpy() for value in kept]
    found = []
    for number in range(len(seeds)):
        own = slice(number * count, (number + 1) * count)
        found.append(
            Inverted(form, sizes[own].double().cpu().numpy(), tuple(a[own] for a in arrays), reached[own].cpu().numpy())
        )
    return found
