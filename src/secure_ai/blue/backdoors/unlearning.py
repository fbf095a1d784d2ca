"""Unlearning triggers: the one that a scan reconstructed, and those that further searches find."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.backdoors.inversion import Form, Inverted, invert, one_class
from secure_ai.blue.backdoors.repair import Reconstructed, Repair, fine_tune, tuned
from secure_ai.blue.training.methods import Batch, BatchLoss, Method, cross_entropy_loss
from secure_ai.core.seeds import derive_seed

ROUNDS, SEARCHES, EPOCHS = 2, 8, 2  # searches and epochs of each round
STAMPED = 0.5  # of a batch


def unlearn(repair: Repair) -> nn.Module:
    """Training with triggers on half of each batch, true labels kept (Neural Cleanse, section VI-C), in rounds.

    One reconstructed trigger is not the planted one, which survives if that one alone is unlearned. So each round
    searches the network as it is by then for further triggers of the same form and class, and the training draws from
    all that were found.

    Without a trigger it is fine-tuning.
    """
    if repair.trigger is None:
        return fine_tune(repair)
    found = [_only(repair.trigger)]
    network = copy.deepcopy(repair.network)
    for number in range(ROUNDS):
        seed = derive_seed(repair.seed, "unlearning", number)
        found.append(_searched(repair, repair.trigger, network, seed))
        method = _with_triggers(repair.trigger.inverted.form, found)
        network = tuned(network, repair.clean, method, seed, EPOCHS)
    return network


def _only(trigger: Reconstructed) -> list[np.ndarray]:
    chosen = slice(trigger.search, trigger.search + 1)
    return [value[chosen] for value in trigger.inverted.parameters]


def _searched(repair: Repair, trigger: Reconstructed, network: nn.Module, seed: int) -> list[np.ndarray]:
    """Parameters (G, ...) of what searches in the network end with; those that do not reach their goal are used too."""
    form = trigger.inverted.form
    searches = one_class(np.asarray(repair.clean.labels), trigger.label, trigger.source, form, SEARCHES, seed)
    target = replace(repair.target, network=network.eval())
    found: Inverted = invert(target, repair.clean.images, searches, form, seed, scattered=True)
    return list(found.parameters)


def _with_triggers(form: Form, found: list[list[np.ndarray]]) -> Method:
    """A method that puts a random one of the triggers on each image of the first half of a batch."""
    values = [torch.from_numpy(np.concatenate(parts)) for parts in zip(*found, strict=True)]

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        count = int(STAMPED * len(batch.y))
        which = torch.randint(len(values[0]), (count,), generator=batch.generator, device="cpu")
        chosen: list[Tensor] = [value[which].to(batch.x.device) for value in values]
        stamped = form.apply(chosen, batch.x[:count, None])[:, 0]
        return cross_entropy_loss(network, torch.cat([stamped, batch.x[count:]]), batch.y)

    return method
