"""Trigger inversion for all classes in one batch: the cheapest change that sends images of other classes to each.

A small change exists in clean networks, too: its size says something beside the sizes on clean networks only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from secure_ai.core.compute import CPU
from secure_ai.core.errors import EmptyDataError
from secure_ai.core.seeds import generator, normal
from secure_ai.data.splits import random_order
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float

IMAGES = 6  # of other classes for each target
SUCCESS = 0.95  # a change that works for fewer is none
PRICE, DEARER, CHEAPER = 1e-2, 1.1, 1.15


@dataclass(frozen=True, slots=True)
class Form:
    """A form of change: x -> amount * pattern + (1 - amount * opaque) * x, and what it costs.

    Attributes:
        parameters: (classes, image shape, generator) -> what is learned, on the CPU.
        apply: (parameters, images (K, M, C, H, W)) -> changed images in [0, 1].
        cost: parameters -> (K,).
    """

    parameters: Callable[[int, tuple[int, int, int], torch.Generator], list[Tensor]]
    apply: Callable[[list[Tensor], Tensor], Tensor]
    cost: Callable[[list[Tensor]], Tensor]
    steps: int
    learning_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Inverted:
    """What inversion found for each class.

    Attributes:
        sizes: (K,) float64, the least cost at which at least SUCCESS of the images went to the class; where none did,
            the cost of the last attempt.
        parameters: of those changes, each (K, ...) float32.
        reached: (K,) bool.
    """

    form: Form
    sizes: np.ndarray
    parameters: tuple[np.ndarray, ...]
    reached: np.ndarray

    def stamp(self, images: np.ndarray, label: int) -> np.ndarray:
        """Images (N, C, H, W), uint8 or float32, with the change found for class `label`: float32 in [0, 1]."""
        own = [torch.from_numpy(value[label : label + 1]) for value in self.parameters]
        return self.form.apply(own, images_to_float(images)[None])[0].numpy()


def _mask_and_pattern(classes: int, shape: tuple[int, int, int], draws: torch.Generator) -> list[Tensor]:
    channels, height, width = shape
    return [
        torch.full((classes, 1, height, width), -3.0, device="cpu"),
        0.1 * normal((classes, channels, height, width), draws, CPU),
    ]


def _masked(parameters: list[Tensor], x: Tensor) -> Tensor:
    mask, pattern = (value.sigmoid()[:, None] for value in parameters)
    return (1 - mask) * x + mask * pattern


def _difference(classes: int, shape: tuple[int, int, int], draws: torch.Generator) -> list[Tensor]:
    return [0.01 * normal((classes, *shape), draws, CPU)]


FORMS: dict[str, Form] = {
    # Neural Cleanse (S&P 2019, section III-B): mask and pattern, cost L1 of the mask
    "mask": Form(_mask_and_pattern, _masked, lambda p: p[0].sigmoid().flatten(1).sum(dim=1), 120, 0.2),
    # the same for changes that are added to the image: blended and low-contrast triggers; cost L2
    "additive": Form(
        _difference, lambda p, x: (x + p[0][:, None]).clamp(0, 1), lambda p: p[0].flatten(1).norm(dim=1), 40, 0.05
    ),
}


def probe_images(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """For each target the positions of IMAGES random images of other classes, (K, M) int64; M is smaller in small data.

    Raises:
        EmptyDataError: all images are of one class.
    """
    order = random_order(len(labels), "invert", seed)
    others = [order[labels[order] != label] for label in range(classes)]
    least = min(map(len, others))
    if least == 0:
        raise EmptyDataError("no image of another class", where="the data", expected="images of two classes at least")
    return np.stack([positions[: min(IMAGES, least)] for positions in others])


def invert(target: NetworkTarget, images: np.ndarray, labels: np.ndarray, form: Form, seed: int) -> Inverted:
    """The smallest change of each class, all classes in one batch.

    The price of a class's cost rises while its change works and falls while it does not, as in Neural Cleanse.

    Args:
        images: (N, C, H, W) uint8 or float32, clean; labels: (N,) int64.
    """
    classes = target.num_classes
    chosen = probe_images(labels, classes, seed)
    device = target.device
    x = images_to_float(images[chosen.ravel()]).view(*chosen.shape, *target.input_shape).to(device)
    wanted = torch.arange(classes, device=device).repeat_interleave(chosen.shape[1])
    drawn = form.parameters(classes, target.input_shape, generator(seed, "invert"))
    parameters = [value.to(device) for value in drawn]
    for value in parameters:
        value.requires_grad_()
    optimizer = torch.optim.Adam(parameters, lr=form.learning_rate)
    price, sizes = (torch.full((classes,), start, device=device) for start in (PRICE, torch.inf))
    kept = [value.detach().clone() for value in parameters]
    with target.attacked():
        for _ in range(form.steps):
            logits = target.logits(form.apply(parameters, x).flatten(0, 1))
            cost = form.cost(parameters)
            success = (logits.detach().argmax(dim=1) == wanted).float().view(chosen.shape).mean(dim=1)
            _keep(parameters, kept, sizes, cost.detach(), success >= SUCCESS)
            losses = functional.cross_entropy(logits, wanted, reduction="none").view(chosen.shape).mean(dim=1)
            optimizer.zero_grad(set_to_none=True)
            (losses + price * cost).sum().backward()
            optimizer.step()
            price = torch.where(success >= SUCCESS, price * DEARER, price / CHEAPER)
    reached = torch.isfinite(sizes)
    last = form.cost(parameters).detach()
    _keep(parameters, kept, sizes, last, ~reached)
    changes = tuple(value.cpu().numpy() for value in kept)
    return Inverted(form, sizes.cpu().double().numpy(), changes, reached.cpu().numpy())


def _keep(parameters: list[Tensor], kept: list[Tensor], sizes: Tensor, cost: Tensor, works: Tensor) -> None:
    """Take over the changes that work and cost less than those kept so far."""
    better = works & (cost < sizes)
    sizes[better] = cost[better]
    for old, new in zip(kept, parameters, strict=True):
        old[better] = new.detach()[better]
