"""Removers of backdoors: each makes a repaired copy of a network from a few thousand clean images.

None of them sees the planted trigger; unlearning begins with the one that the scan reconstructed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.backdoors.flat_minimum import flat_minimum
from secure_ai.blue.backdoors.repair import Repair, Stamp, fine_tune, tuned
from secure_ai.blue.backdoors.shared_adversarial import shared_adversarial
from secure_ai.blue.backdoors.unlearning import unlearn
from secure_ai.blue.training.methods import natural
from secure_ai.core.compute import device_of
from secure_ai.core.errors import ArchError
from secure_ai.data.dataset import Dataset
from secure_ai.models.tensors import images_to_float

PRUNE_STEP, PRUNING_MAY_COST = 0.05, 0.02  # units pruned at once, and accuracy that pruning may cost before fine-tuning
RELEARN_IMAGES, RELEARN_EPOCHS = 50, 5

Remover = Callable[[Repair], nn.Module]


def fine_prune(repair: Repair) -> nn.Module:
    """Silence the units of one layer that clean images use least, then fine-tune (Fine-Pruning, 1805.12185, section 4).

    The layer is the last convolution, or the last hidden linear layer where there is none. Units are pruned while the
    accuracy on the clean images falls by at most PRUNING_MAY_COST.

    Raises:
        ArchError: no such layer.
    """
    network = copy.deepcopy(repair.network).eval()
    layer = _pruned_layer(network)
    order = _activity(network, layer, repair.clean).argsort().tolist()
    step = max(1, int(PRUNE_STEP * len(order)))
    least = _accuracy(network, repair.clean) - PRUNING_MAY_COST
    weight, bias = layer.weight, layer.bias
    for start in range(0, len(order) - step, step):
        chosen = order[start : start + step]
        kept = [(value, value.detach().clone()) for value in (weight, bias) if value is not None]
        with torch.no_grad():
            for value, _ in kept:
                value[chosen] = 0
        if _accuracy(network, repair.clean) < least:
            with torch.no_grad():
                for value, before in kept:
                    value.copy_(before)
            break
    return tuned(network, repair.clean, natural, repair.seed)


def _pruned_layer(network: nn.Module) -> nn.Conv2d | nn.Linear:
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if convolutions:
        return convolutions[-1]
    if len(linear) < 2:
        raise ArchError("no layer to prune", where="fine-pruning", expected="a convolution or a hidden linear layer")
    return linear[-2]


@torch.no_grad()
def _activity(network: nn.Module, layer: nn.Module, data: Dataset) -> Tensor:
    """Mean positive activation of each unit (U,)."""
    seen: list[Tensor] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output.relu().transpose(0, 1).flatten(1).mean(dim=1))

    handle = layer.register_forward_hook(hook)
    try:
        for part in images_to_float(data.images).split(500):
            network(part.to(device_of(network)))
    finally:
        handle.remove()
    return torch.stack(seen).mean(dim=0)


@torch.no_grad()
def _accuracy(network: nn.Module, data: Dataset) -> float:
    labels = torch.from_numpy(np.array(data.labels))
    device = device_of(network)
    parts = [network(part.to(device)).argmax(dim=1).cpu() for part in images_to_float(data.images).split(500)]
    return float((torch.cat(parts) == labels).float().mean())


def relearned(network: nn.Module, clean: Dataset, stamp: Stamp, label: int, seed: int) -> nn.Module:
    """A copy after a few epochs on a few triggered images with the target's label, among clean ones of the same number.

    A backdoor that is hidden and not gone comes back far sooner than a clean network learns one (2410.09838).
    """
    others = np.flatnonzero(clean.labels != label)[:RELEARN_IMAGES]
    rest = np.setdiff1d(np.arange(len(clean)), others)[:RELEARN_IMAGES]
    images = np.concatenate([stamp(clean.images[others]), images_to_float(clean.images[rest]).numpy()])
    labels = np.concatenate([np.full(len(others), label, dtype=np.int64), clean.labels[rest]])
    few = Dataset(images.astype(np.float32), labels, "relearning", clean.classes)
    return tuned(copy.deepcopy(network), few, natural, seed, RELEARN_EPOCHS)


REMOVERS: Mapping[str, Remover] = {
    "unlearning": unlearn,
    "ft-sam": flat_minimum,
    "sau": shared_adversarial,
    "fine-pruning": fine_prune,
    "fine-tuning": fine_tune,
}
