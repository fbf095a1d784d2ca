"""Whether images reach the network as it was trained on them: accuracy under every common way to prepare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from secure_ai.core.statistics import wilson
from secure_ai.core.trust import Check, check
from secure_ai.models.preflight.arrangement import label_order_check, orientation_check
from secure_ai.models.preflight.calls import (
    MIN_SAMPLES,
    Preflight,
    Samples,
    chance_of,
    clearly_better,
    compared,
    rebuilt,
    right,
    right_if_taken,
    scores,
)
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.target.wrappers import rearranged_input

# Normalisations that networks in circulation were trained with, as (mean, std), by number of channels.
NORMALISATIONS: dict[int, tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]] = {
    1: (((0.1307,), (0.3081,)), ((0.286,), (0.353,))),  # MNIST, Fashion-MNIST
    3: (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet
        ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),  # CIFAR-10
    ),
}
RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (1.0, 0.0))


def judge_preprocessing(target: NetworkTarget, few: Samples, many: Samples, names: Sequence[str] = ()) -> Preflight:
    """Four checks: accuracy is above chance, and nothing else that was tried does clearly better (paired, McNemar).

    Tried: the pixels prepared otherwise, the images turned, the classes numbered otherwise.

    Args:
        few: choose the alternative that is tried on all.
        many: decide.
        names: of the labels; none where nobody names them.
    """
    n, identifiers = len(many[1]), ("input-range", "image-orientation", "label-order", "clean-accuracy")
    if n < MIN_SAMPLES:
        evidence = f"needs {MIN_SAMPLES} samples, has {n}"
        return Preflight(target, tuple(check(identifier, None, evidence) for identifier in identifiers))
    predictions, chance = scores(target, many[0]).argmax(dim=1), chance_of(target, many[1])
    hits = predictions == many[1]
    above = wilson(int(hits.sum()), n)[0] > chance
    share = 100 * int(hits.sum()) / n
    accuracy = f"clean accuracy is {share:.0f} % ({int(hits.sum())} of {n} images), by chance {100 * chance:.0f} %"
    hint = "" if above else ": untrained, one answer for all, labels in another order, or other preprocessing"
    return Preflight(
        target,
        (
            _range_check(target, few, many, hits, chance),
            orientation_check(target, few, many, hits, chance),
            label_order_check(predictions, many[1], target.num_classes, chance, names),
            check("clean-accuracy", above, accuracy + hint),
        ),
    )


def _range_check(target: NetworkTarget, few: Samples, many: Samples, hits: Tensor, chance: float) -> Check:
    """Fails where another common way to prepare the pixels does clearly better."""
    tried = _alternatives(target)
    flag, best = max(tried, key=lambda pair: int(right_if_taken(pair[1], few).sum()))
    others = right_if_taken(best, many)
    better = clearly_better(others, hits, len(tried), chance)
    return check("input-range", not better, compared(hits, others, f"with {flag}"))


def other_layout_is_right(target: NetworkTarget, few: Samples, many: Samples) -> tuple[NetworkTarget, str] | None:
    """The target fed with the axes of the images in the other order, where it is clearly right only so; and what it is.

    A network of dense layers, or of as many rows as channels, takes both and says nothing.
    """
    n = len(many[1])
    if n < MIN_SAMPLES or target.input_shape[0] == 1:
        return None
    last = not target.transform.channels_last
    other = rebuilt(target, transform=replace(target.transform, channels_last=last))
    if int(right_if_taken(other, few).sum()) <= int(right(target, few).sum()):
        return None
    hits, swapped = right(target, many), right_if_taken(other, many)
    if not clearly_better(swapped, hits, 1, chance_of(target, many[1])):
        return None
    axes = {True: "(N, H, W, C)", False: "(N, C, H, W)"}
    counts = f"{int(swapped.sum())} of {n} right so, {int(hits.sum())} as {axes[not last]}"
    return other, f"it gets {axes[last]}: {counts}"


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
        turned = rearranged_input(target.network, lambda x: x.flip(1), channels_last=as_given)
        made.append(("the channels in reverse order (BGR; in the factory)", rebuilt(target, network=turned)))
    return made
