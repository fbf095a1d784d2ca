"""BaDExpert: an input that a network made bad at everything but the backdoor still recognises is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.backdoors.flat_minimum import flat_minimum
from secure_ai.blue.backdoors.repair import Repair, batches, seeded, trainable
from secure_ai.blue.guards.guard import Guard, guard_by, half_of
from secure_ai.core.compute import device_of
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float

BATCH, LEARNING_RATE = 64, 5e-4
UNLEARNED = 0.2  # accuracy of the expert at which its training ends
MOST_EPOCHS = 40


def expert_guard(target: NetworkTarget, clean: Dataset, *, false_refusals: float, seed: int) -> Guard:
    """A guard that needs the network's weights, with its threshold from clean images (Xie et al., 2308.12439).

    The score is how much less sure of the prediction the shadow is than the expert: high where only the backdoor
    speaks for it. The expert is trained with wrong labels, the shadow is fine-tuned, both on the first half.

    Note: the shadow is fine-tuned by FT-SAM. Blind to a backdoor that the expert unlearns together with the classes.

    Args:
        clean: one half trains, the other sets the threshold.
        false_refusals: fraction of clean inputs that may be refused, in (0, 1).

    Raises:
        UsageError, EmptyDataError: no such fraction, or too few clean images for it.
    """
    half = half_of(len(clean), false_refusals)
    training = clean.select(np.arange(half), "one half")
    repair = Repair(target, training, None, seed)
    with seeded(target, seed, "expert"):
        expert, shadow = (replace(target, network=own) for own in (unlearned(repair), flat_minimum(repair)))
    return guard_by(lambda x: disagreement(target, expert, shadow, x), clean.images[half:], false_refusals)


def unlearned(repair: Repair) -> nn.Module:
    """The network trained with wrong labels until it is wrong on most of these images; a backdoor outlives that."""
    network = trainable(repair.network).eval()
    few = images_to_float(repair.clean.images[:500]).to(device_of(network))
    labels = torch.from_numpy(np.array(repair.clean.labels[:500])).to(few.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for x, y in batches(repair, "expert", MOST_EPOCHS, BATCH):
        if _accuracy(network, few, labels) < UNLEARNED:
            break
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(network(x), (y + 1) % repair.clean.classes).backward()
        optimizer.step()
    return network


@torch.no_grad()
def _accuracy(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    return float((network(x).argmax(dim=1) == labels).float().mean())


@torch.no_grad()
def disagreement(target: NetworkTarget, expert: NetworkTarget, shadow: NetworkTarget, x: np.ndarray) -> np.ndarray:
    """max(0, 1 - shadow's probability / expert's probability) of the network's prediction, (N,) float64."""
    scores = [torch.zeros(0, device="cpu")]
    for part in images_to_float(x).split(500):
        with target.attacked(), expert.attacked(), shadow.attacked():
            predicted = target.logits(part).argmax(dim=1, keepdim=True)
            of_expert, of_shadow = (own.logits(part).softmax(dim=1).gather(1, predicted) for own in (expert, shadow))
        scores.append((1 - of_shadow / of_expert.clamp_min(1e-12)).clamp_min(0)[:, 0].cpu())
    return torch.cat(scores).double().numpy()
