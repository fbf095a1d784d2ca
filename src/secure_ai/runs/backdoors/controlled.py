"""A backdoored network trained by its attacker, who poisons every batch anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Batch, BatchLoss, cross_entropy_loss
from secure_ai.blue.training.schedules import constant
from secure_ai.core.errors import ShapeError, UsageError
from secure_ai.core.results import Rate
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import hold_out_last
from secure_ai.data.triggers import covered, stamp
from secure_ai.models.networks.built_in import build_network, network_entry
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import to_channels_last
from secure_ai.red.poisoning.controlled import ControlledPoison, poisoned_batch
from secure_ai.red.poisoning.plant import backdoor_success_rate

EPOCHS = 5
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Backdoored:
    """The network, its accuracy on images that it was not trained on, and the trigger's success on them."""

    network: nn.Module
    accuracy: Rate
    success: Rate


def train_backdoored(
    arch: str,
    data: Dataset,
    poison: ControlledPoison,
    *,
    seed: int,
    dtype: torch.dtype,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Backdoored:
    """A built-in network with the backdoor; the last tenth of the data measures.

    Raises:
        UsageError, ShapeError, TriggerError: no such network or class, data that do not fit, a trigger off the image.
    """
    entry = network_entry(arch)
    if data.input_shape != entry.input_shape or data.classes > entry.num_classes:
        raise ShapeError("the network cannot take this data", where=data.name, expected=entry.input_shape,
                         got=data.input_shape)  # fmt: skip
    if not 0 <= poison.target_label < data.classes:
        raise UsageError("no such class", where="--target-label", expected=f"0 to {data.classes - 1}",
                         got=poison.target_label)  # fmt: skip
    covered(poison.trigger, *data.input_shape[1:])
    held_out = round(VALIDATION_SHARE * len(data))
    if not held_out:
        raise UsageError("too few images", where=data.name, expected=">= 10", got=len(data))
    training, rest = hold_out_last(data, held_out)

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        draw = int(torch.randint(2**31, (1,), generator=batch.generator, device="cpu"))
        x, y = poisoned_batch(batch.x.cpu().numpy(), batch.y.cpu().numpy(), poison, draw)
        return cross_entropy_loss(network, torch.from_numpy(x).to(batch.x), torch.from_numpy(y).to(batch.y))

    network = build_network(arch, generator=generator(seed, "controlled", arch))
    plan = TrainingPlan(
        epochs=EPOCHS, batch_size=128, schedule=constant(1e-3), seed=seed, adam_epsilon=1e-7, dtype=dtype, replicas=1
    )
    train(network, training, method=method, plan=plan, progress=progress)
    target = NetworkTarget(
        to_channels_last(network).eval(), name=arch, digest="", input_shape=entry.input_shape,
        num_classes=entry.num_classes,
    )  # fmt: skip
    labels = np.asarray(rest.labels)
    shown = evaluate(target, stamp(rest.images, poison.trigger), labels).predictions
    success = backdoor_success_rate(shown, labels, poison.target_label, classes=target.num_classes)
    return Backdoored(network, evaluate(target, rest.images, labels).accuracy, success)
