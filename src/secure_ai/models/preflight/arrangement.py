"""Whether labels and pixels stand in the order that the network was trained with: classes renumbered, images turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.labels import class_text
from secure_ai.core.trust import Check, check
from secure_ai.models.preflight.calls import MIN_SAMPLES, Samples, clearly_better, compared, rebuilt, right_if_taken
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.wrappers import rearranged_input

TURNS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("transposed", lambda x: x.transpose(2, 3)),
    ("mirrored left to right", lambda x: x.flip(3)),
    ("upside down", lambda x: x.flip(2)),
    ("turned by 180 degrees", lambda x: x.flip(2, 3)),
    ("turned by 90 degrees", lambda x: x.rot90(1, (2, 3))),
    ("turned by 270 degrees", lambda x: x.rot90(3, (2, 3))),
    ("transposed along the other diagonal", lambda x: x.transpose(2, 3).flip(2, 3)),
)
"""Every other way to lay a square image; of an oblong one those that keep its shape."""


def label_order_check(
    predictions: Tensor, labels: Tensor, num_classes: int, chance: float, names: Sequence[str] = ()
) -> Check:
    """Fails where renumbering the outputs one to one makes the network clearly more accurate (paired, McNemar).

    The renumbering is the best one-to-one assignment on every second image of each class; the others decide.

    Args:
        predictions: (N,) int64 in [0, `num_classes`).
        labels: (N,) int64.
        chance: accuracy of always answering the commonest label.
        names: of the labels; none where nobody names them.
    """
    identifier, n = "label-order", len(labels)
    if n < 2 * MIN_SAMPLES:
        return check(identifier, None, f"needs {2 * MIN_SAMPLES} samples, has {n}")
    predictions, labels = predictions.cpu(), labels.cpu()
    order = labels.argsort(stable=True)
    choosing, deciding = order[::2], order[1::2]
    renumbered = torch.from_numpy(
        _best_assignment(predictions[choosing].numpy(), labels[choosing].numpy(), num_classes)
    )
    given, wanted = predictions[deciding], labels[deciding]
    hits, others = given == wanted, renumbered[given] == wanted
    moved = [int(output) for output in np.flatnonzero(renumbered.numpy() != np.arange(num_classes))]
    moved = [output for output in moved if bool((given == output).any())]
    told = compared(hits, others, "with the classes renumbered")
    if not clearly_better(others, hits, 1, chance):
        return check(identifier, True, told)
    pairs = ", ".join(f"output {output} is label {class_text(int(renumbered[output]), names)}" for output in moved[:10])
    return check(identifier, False, f"{told}: {pairs}")


def _best_assignment(outputs: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,) int64: the label that each output stands for, most right answers first, then fewest changes.

    Only what occurs is assigned; outputs that no image was given keep their number.
    """
    from scipy.optimize import linear_sum_assignment  # lazily: scipy costs start-up time

    seen = np.union1d(outputs, labels)
    counts = np.zeros((len(seen), len(seen)))
    np.add.at(counts, (np.searchsorted(seen, outputs), np.searchsorted(seen, labels)), 1.0)
    np.fill_diagonal(counts, counts.diagonal() + 1 / (len(seen) + 1))  # among equals as it is
    rows, columns = linear_sum_assignment(counts, maximize=True)
    assigned = np.arange(num_classes)
    assigned[seen[rows]] = seen[columns]
    return assigned


def orientation_check(target: NetworkTarget, few: Samples, many: Samples, hits: Tensor, chance: float) -> Check:
    """Fails where the network is clearly right only on images that are turned or mirrored (paired, McNemar).

    Args:
        few: choose the other way of laying them; the best is tried on all only where it is the better one there.
        many: decide.
        hits: (N,) bool, who of `many` is right as given.
    """
    identifier, n = "image-orientation", len(many[1])
    if n < MIN_SAMPLES:
        return check(identifier, None, f"needs {MIN_SAMPLES} samples, has {n}")
    height, width = target.input_shape[1:]
    ways = [(name, turn) for name, turn in TURNS if turn(few[0][:1]).shape[2:] == (height, width)]
    last = target.transform.channels_last
    tried = [(name, rebuilt(target, network=rearranged_input(target.network, turn, channels_last=last)))
             for name, turn in ways]  # fmt: skip
    name, best = max(tried, key=lambda pair: int(right_if_taken(pair[1], few).sum()))
    as_given, turned = int(right_if_taken(target, few).sum()), int(right_if_taken(best, few).sum())
    if turned <= as_given:
        return check(
            identifier, True, f"{as_given} of {len(few[1])} right as given, at most {turned} turned or mirrored"
        )
    others = right_if_taken(best, many)
    told = compared(hits, others, f"with the images {name}")
    better = clearly_better(others, hits, len(tried), chance)
    return check(identifier, not better, told)
