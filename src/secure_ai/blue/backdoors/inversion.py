"""Trigger inversion, many searches in one batch: the cheapest change that sends given images to a given class.

A small change exists in clean networks, too: its size says something beside the sizes on clean networks only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from secure_ai.core.errors import EmptyDataError
from secure_ai.core.seeds import generator, normal
from secure_ai.data.splits import random_order
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float

SUCCESS = 0.9  # a change that works for fewer is none
PRICE, DEARER, CHEAPER = PRICES = 1e-2, 1.1, 1.15
MOST_PAIRED = 20  # of more classes, only as many pairs as so many have are searched, drawn at random
EVERY = -1  # as a source: every class but the target

Logits = Callable[[Tensor], Tensor]
"""(G, M, C, H, W) in [0, 1] -> (G, M, K): the images of each search through its network."""
Parameters = Callable[[int, tuple[int, int, int], torch.Generator, torch.device], list[Tensor]]


@dataclass(frozen=True, slots=True)
class Form:
    """A form of change, and how it is searched for.

    Attributes:
        parameters: (searches, image shape, generator, device) -> what is learned.
        apply: (parameters, images (G, M, C, H, W)) -> changed images in [0, 1].
        cost: parameters -> (G,).
        images: that each search works on.
        scatter: standard deviation of what is added to the parameters where searches for one class are to differ.
    """

    parameters: Parameters
    apply: Callable[[list[Tensor], Tensor], Tensor]
    cost: Callable[[list[Tensor]], Tensor]
    steps: int
    learning_rate: float
    images: int
    scatter: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Searches:
    """What is searched for.

    Attributes:
        positions: (G, M) int64, the images that each search works on.
        targets: (G,) int64, the class wanted of them.
        sources: (G,) int64, their own class, or EVERY.
    """

    positions: np.ndarray
    targets: np.ndarray
    sources: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Inverted:
    """What inversion found in each search.

    Attributes:
        sizes: (G,) float64, the least cost at which at least SUCCESS of the images went to the class; where none did,
            the cost of the last attempt.
        parameters: of those changes, each (G, ...) float32.
        reached: (G,) bool.
    """

    form: Form
    sizes: np.ndarray
    parameters: tuple[np.ndarray, ...]
    reached: np.ndarray

    def stamp(self, images: np.ndarray, search: int) -> np.ndarray:
        """Images (N, C, H, W), uint8 or float32, with the change that a search found: float32 in [0, 1]."""
        own = [torch.from_numpy(value[search : search + 1]) for value in self.parameters]
        return self.form.apply(own, images_to_float(images)[None])[0].numpy()


def _mask_and_pattern(
    count: int, shape: tuple[int, int, int], draws: torch.Generator, device: torch.device
) -> list[Tensor]:
    channels, height, width = shape
    return [
        torch.full((count, 1, height, width), -3.0, device=device),
        0.1 * normal((count, channels, height, width), draws, device),
    ]


def _masked(parameters: list[Tensor], x: Tensor) -> Tensor:
    mask, pattern = (value.sigmoid()[:, None] for value in parameters)
    return (1 - mask) * x + mask * pattern


def _covered(parameters: list[Tensor]) -> Tensor:
    return parameters[0].sigmoid().flatten(1).sum(dim=1)


def _difference(count: int, shape: tuple[int, int, int], draws: torch.Generator, device: torch.device) -> list[Tensor]:
    return [0.01 * normal((count, *shape), draws, device)]


def _added(parameters: list[Tensor], x: Tensor) -> Tensor:
    return (x + parameters[0][:, None]).clamp(0, 1)


FORMS: dict[str, Form] = {
    # Neural Cleanse (S&P 2019, section III-B): mask and pattern, cost L1 of the mask
    "mask": Form(_mask_and_pattern, _masked, _covered, 260, 0.15, 10, (0.5, 1.0)),
    # the same for changes that are added to the image: blended and low-contrast triggers; cost L2
    "additive": Form(_difference, _added, lambda p: p[0].flatten(1).norm(dim=1), 100, 0.03, 10, (0.05,)),
    # a mask for the images of one class only
    "pair": Form(_mask_and_pattern, _masked, _covered, 100, 0.2, 4, (0.5, 1.0)),
}


def every_class(labels: np.ndarray, classes: int, form: Form, seed: int) -> Searches:
    """One search for each target, on random images of all other classes; fewer images in small data.

    Raises:
        EmptyDataError: all images are of one class.
    """
    order = random_order(len(labels), "invert", seed)
    others = [order[labels[order] != label] for label in range(classes)]
    least = min(map(len, others))
    if least == 0:
        raise EmptyDataError("no image of another class", where="the data", expected="images of two classes at least")
    positions = np.stack([own[: min(form.images, least)] for own in others])
    return Searches(positions, np.arange(classes), np.full(classes, EVERY))


def pairs(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets (P,) of all ordered pairs of classes, or of a fixed random sample where there are many."""
    sources, targets = np.nonzero(~np.eye(classes, dtype=bool))
    most = MOST_PAIRED * (MOST_PAIRED - 1)
    if len(sources) > most:
        chosen = np.sort(random_order(len(sources), "pairs", classes)[:most])
        sources, targets = sources[chosen], targets[chosen]
    return sources, targets


def every_pair(labels: np.ndarray, classes: int, form: Form, seed: int) -> tuple[Searches, np.ndarray]:
    """One search for each pair whose source has images, and the positions of those among `pairs`.

    A class with fewer images than a search takes gives each of them several times.
    """
    order = random_order(len(labels), "invert-pairs", seed)
    sources, targets = pairs(classes)
    own = {int(label): order[labels[order] == label] for label in np.unique(labels)}
    possible = np.flatnonzero(np.isin(sources, list(own)))
    positions = np.stack([np.resize(own[int(source)], form.images) for source in sources[possible]])
    return Searches(positions, targets[possible], sources[possible]), possible


def one_class(labels: np.ndarray, label: int, source: int, form: Form, count: int, seed: int) -> Searches:
    """`count` searches for one target, each on other random images of the source, or of every other class.

    Raises:
        EmptyDataError: all images are of that class.
    """
    own = np.flatnonzero(labels == source)
    if not len(own):  # EVERY, or a source that these images lack
        own = np.flatnonzero(labels != label)
    if not len(own):
        raise EmptyDataError("no image of another class", where="the data", expected="images of two classes at least")
    draws = (random_order(len(own), "invert-again", seed, number) for number in range(count))
    positions = np.stack([np.resize(own[order], form.images) for order in draws])
    return Searches(positions, np.full(count, label), np.full(count, source))


def invert(
    target: NetworkTarget, images: np.ndarray, searches: Searches, form: Form, seed: int, *, scattered: bool = False
) -> Inverted:
    """The smallest change of each search, all in one batch.

    Args:
        images: (N, C, H, W) uint8 or float32, clean.
        scattered: the searches begin apart from each other and end in different changes.
    """
    shape = searches.positions.shape
    x = images_to_float(images[searches.positions.ravel()]).view(*shape, *target.input_shape).to(target.device)
    draws = generator(seed, "invert")
    parameters = form.parameters(len(x), target.input_shape, draws, target.device)
    if scattered:
        for value, deviation in zip(parameters, form.scatter, strict=True):
            value += deviation * normal(tuple(value.shape), draws, target.device)

    def logits(changed: Tensor) -> Tensor:
        return target.logits(changed.flatten(0, 1)).view(*shape, target.num_classes)

    with target.attacked():
        sizes, kept, reached = smallest(logits, x, torch.from_numpy(searches.targets).to(x.device), form, parameters)
    arrays = tuple(value.cpu().numpy() for value in kept)
    return Inverted(form, sizes.double().cpu().numpy(), arrays, reached.cpu().numpy())


def smallest(
    logits: Logits, x: Tensor, wanted: Tensor, form: Form, parameters: list[Tensor]
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Sizes (G,), parameters of the smallest changes, and where there was one (G,).

    The price of a search's cost rises while its change works and falls while it does not, as in Neural Cleanse.

    Args:
        x: (G, M, C, H, W), the images of each search; wanted: (G,).
        parameters: where the searches begin.
    """
    goal = wanted.repeat_interleave(x.shape[1])
    for value in parameters:
        value.requires_grad_()
    optimizer = torch.optim.Adam(parameters, lr=form.learning_rate)
    price, sizes = torch.full_like(wanted, PRICE, dtype=x.dtype), torch.full_like(wanted, torch.inf, dtype=x.dtype)
    kept = [value.detach().clone() for value in parameters]
    for _ in range(form.steps):
        found, cost = logits(form.apply(parameters, x)), form.cost(parameters)
        success = (found.detach().argmax(dim=2) == wanted[:, None]).to(x.dtype).mean(dim=1)
        _keep(parameters, kept, sizes, cost.detach(), success >= SUCCESS)
        losses = functional.cross_entropy(found.flatten(0, 1), goal, reduction="none").view(x.shape[:2]).mean(dim=1)
        optimizer.zero_grad(set_to_none=True)
        (losses + price * cost).sum().backward()
        optimizer.step()
        price = torch.where(success >= SUCCESS, price * DEARER, price / CHEAPER)
    reached = torch.isfinite(sizes)
    _keep(parameters, kept, sizes, form.cost(parameters).detach(), ~reached)
    return sizes, kept, reached


def _keep(parameters: list[Tensor], kept: list[Tensor], sizes: Tensor, cost: Tensor, works: Tensor) -> None:
    """Take over the changes that work and cost less than those kept so far."""
    better = works & (cost < sizes)
    sizes.copy_(torch.where(better, cost, sizes))
    for old, new in zip(kept, parameters, strict=True):
        old.copy_(torch.where(better.view(-1, *[1] * (old.dim() - 1)), new.detach(), old))
