"""Whether pixels reach the network as it was trained on them: accuracy under every common way to prepare them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from secure_ai.core.errors import TargetError
from secure_ai.core.statistics import mcnemar_exact, wilson
from secure_ai.core.trust import check
from secure_ai.models.preflight.calls import Preflight, rebuilt, scores
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.target.wrappers import reversed_channels

MIN_SAMPLES = 10
ALPHA = 0.001
CLEARLY_ABOVE_CHANCE = 0.25  # share of the way from chance to 1

# Normalisations that networks in circulation were trained with, as (mean, std), by number of channels.
NORMALISATIONS: dict[int, tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]] = {
    1: (((0.1307,), (0.3081,)), ((0.286,), (0.353,))),  # MNIST, Fashion-MNIST
    3: (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet
        ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),  # CIFAR-10
    ),
}
RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (1.0, 0.0))

Samples = tuple[Tensor, Tensor]
"""Images (N, C, H, W) and labels (N,)."""


def judge_preprocessing(target: NetworkTarget, few: Samples, many: Samples) -> Preflight:
    """Two checks: no other preprocessing does clearly better (paired, McNemar), and accuracy is above chance.

    Chance is that of the commonest label, at least 1 / K: to answer always the same is no skill.

    Args:
        few: choose the alternative that is tried on all.
        many: decide.
    """
    n = len(many[1])
    if n < MIN_SAMPLES:
        evidence = f"needs {MIN_SAMPLES} samples, has {n}"
        return Preflight(target, (check("input-range", None, evidence), check("clean-accuracy", None, evidence)))
    hits, chance = _right(target, many), _chance(target, many[1])
    tried = _alternatives(target)
    flag, best = max(tried, key=lambda pair: int(_right_if_taken(pair[1], few).sum()))
    others = _right_if_taken(best, many)
    better = _clearly_better(others, hits, len(tried), chance)
    right = int(hits.sum())
    told = f"{right} of {n} right as given, {int(others.sum())} with {flag}"
    above = wilson(right, n)[0] > chance
    accuracy = f"{right} of {n} right; chance, or always the commonest label, is {chance:.0%}"
    hint = "" if above else ": untrained, one answer for all, labels in another order, or other preprocessing"
    return Preflight(
        target,
        (
            check("input-range", not better, f"{told}: prepare the images so" if better else told),
            check("clean-accuracy", above, accuracy + hint),
        ),
    )


def other_layout_is_right(target: NetworkTarget, few: Samples, many: Samples) -> tuple[NetworkTarget, str] | None:
    """The target fed with the axes of the images in the other order, where it is clearly right only so; and what it is.

    A network of dense layers, or of as many rows as channels, takes both and says nothing.
    """
    n = len(many[1])
    if n < MIN_SAMPLES or target.input_shape[0] == 1:
        return None
    last = not target.transform.channels_last
    other = rebuilt(target, transform=replace(target.transform, channels_last=last))
    if int(_right_if_taken(other, few).sum()) <= int(_right(target, few).sum()):
        return None
    hits, swapped = _right(target, many), _right_if_taken(other, many)
    if not _clearly_better(swapped, hits, 1, _chance(target, many[1])):
        return None
    axes = {True: "(N, H, W, C)", False: "(N, C, H, W)"}
    counts = f"{int(swapped.sum())} of {n} right so, {int(hits.sum())} as {axes[not last]}"
    return other, f"it gets {axes[last]}: {counts}"


def _chance(target: NetworkTarget, y: Tensor) -> float:
    return max(1 / target.num_classes, int(torch.bincount(y).max()) / len(y))


def _clearly_better(hits: Tensor, than: Tensor, comparisons: int, chance: float) -> bool:
    """Whether (N,) bool `hits` are more than the other's on the same samples, beyond chance and clearly above it.

    p alone would also prefer a little above chance to less than chance, as with labels in another order.
    """
    right, n = int(hits.sum()), len(hits)
    p = mcnemar_exact(int((than & ~hits).sum()), int((hits & ~than).sum()))
    good = wilson(right, n)[0] > chance + CLEARLY_ABOVE_CHANCE * (1 - chance)
    return right > int(than.sum()) and p < ALPHA / comparisons and good


def _alternatives(target: NetworkTarget) -> list[tuple[str, NetworkTarget]]:
    """The target with the pixels prepared in other ways, each with its flag."""
    as_given, channels = target.transform.channels_last, target.input_shape[0]
    found = []
    # in the other layout too: preflight finds that one by itself once the flag is right
    for last in (as_given,) if channels == 1 else (as_given, not as_given):
        base = InputTransform(channels_last=last)
        found += [(f"--range {low:g},{high:g}", replace(base, low=low, high=high)) for low, high in RANGES]
        for mean, std in NORMALISATIONS.get(channels, ()):
            flag = f"--mean {','.join(map(str, mean))} --std {','.join(map(str, std))}"
            found.append((flag, replace(base, mean=mean, std=std)))
    made = [(flag, rebuilt(target, transform=way)) for flag, way in found if way != target.transform]
    if channels == 3:
        turned = reversed_channels(target.network, dim=-1 if as_given else 1)
        made.append(("the channels in reverse order (BGR; in the factory)", rebuilt(target, network=turned)))
    return made


def _right(target: NetworkTarget, samples: Samples) -> Tensor:
    """Which samples are right (N,) bool. Raises TargetError."""
    return scores(target, samples[0]).argmax(dim=1) == samples[1]


def _right_if_taken(target: NetworkTarget, samples: Samples) -> Tensor:
    """As `_right`; none where the network raises on such pixels."""
    try:
        return _right(target, samples)
    except TargetError:
        return samples[1] < 0
