"""The training loop. Resuming equals not stopping: every draw depends on seed and epoch only, never on the past."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.training.methods import Batch, Method
from secure_ai.blue.training.replicas import Replicas, allowed_replicas
from secure_ai.blue.training.schedules import Schedule
from secure_ai.blue.training.state import TrainingState, restore, snapshot
from secure_ai.core.compute import MEMORY_FORMAT, device_of, exact_kernels, lower_precision
from secure_ai.core.errors import EmptyDataError, NonFiniteError
from secure_ai.core.seeds import derive_seed, generator, kept_random_state, seed_networks
from secure_ai.data.dataset import Dataset
from secure_ai.models.tensors import images_to_float

VALIDATION_BATCH = 500

Progress = Callable[[int, int], None]


class Checkpoint(Protocol):
    """Where the state after each epoch is kept until the training is whole."""

    def load(self) -> TrainingState | None:
        """The last state saved, or None."""
        ...

    def save(self, state: TrainingState) -> None:
        """Keep `state` in place of the one before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What decides the result, besides network, data and method.

    Attributes:
        adam_epsilon: 1e-7 in Keras, 1e-8 in PyTorch.
        dtype: arithmetic of layers; weights and optimizer stay float32.
        replicas: parts that each batch is computed in, side by side; 1 where `allowed_replicas` says so, whatever is
            asked for.
    """

    epochs: int
    batch_size: int
    schedule: Schedule
    seed: int
    adam_epsilon: float
    dtype: torch.dtype
    replicas: int


@dataclass(slots=True)
class History:
    """Per epoch: running training loss and accuracy, validation loss and accuracy (empty without validation data)."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def _silent(done: int, total: int) -> None:
    pass


def train(
    network: nn.Module,
    dataset: Dataset,
    *,
    method: Method,
    plan: TrainingPlan,
    validation: Dataset | None = None,
    optimizer_state: dict[str, Tensor] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress = _silent,
) -> TrainingState:
    """Train `network` in place with Adam, on the device that it is on.

    Args:
        dataset: images (N, C, H, W); reshuffled every epoch; the last batch may be smaller.
        optimizer_state: Adam's moments to continue from, as `TrainingState.optimizer` holds them.
        checkpoint: asked once for a state to resume from, given the state after every epoch.
        progress: called with (samples done, samples in all).

    Returns:
        The final state; its history has one entry an epoch.

    Raises:
        EmptyDataError: no samples.
        NonFiniteError: the loss became NaN or infinite.
    """
    if len(dataset) == 0:
        raise EmptyDataError("nothing to train on", where=dataset.name, expected="at least one sample")
    plan = replace(plan, replicas=allowed_replicas(network, plan.replicas))
    network.to(memory_format=MEMORY_FORMAT)  # type: ignore[call-overload]  # torch's stub lacks this form
    optimizer = torch.optim.Adam(network.parameters(), eps=plan.adam_epsilon, fused=True)
    history, start = History(), 0
    if optimizer_state is not None:
        restore(network, optimizer, None, optimizer_state)
    resumed = checkpoint.load() if checkpoint else None
    if resumed is not None:
        restore(network, optimizer, resumed.network, resumed.optimizer)
        history, start = resumed.history_as(History), resumed.epochs_done
    replicas = Replicas(network, plan.replicas)
    images, labels = torch.from_numpy(np.array(dataset.images)), torch.from_numpy(np.array(dataset.labels))
    device = device_of(network)
    for epoch in range(start, plan.epochs):
        began = time.perf_counter()
        with replicas.working(), kept_random_state(device), exact_kernels(device):
            seed_networks(derive_seed(plan.seed, "layers", epoch), device)  # dropout draws from the global generator
            loss, accuracy = _epoch(replicas, optimizer, images, labels, method, plan, epoch, progress)
        history.loss.append(loss)
        history.accuracy.append(accuracy)
        history.seconds.append(time.perf_counter() - began)
        if validation is not None:
            validation_loss, validation_accuracy = _validate(network, validation, plan.dtype)
            history.validation_loss.append(validation_loss)
            history.validation_accuracy.append(validation_accuracy)
        if checkpoint and epoch + 1 < plan.epochs:
            checkpoint.save(snapshot(network, optimizer, history, epoch + 1))
    network.eval()
    return snapshot(network, optimizer, history, plan.epochs)


def _epoch(
    replicas: Replicas,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    method: Method,
    plan: TrainingPlan,
    epoch: int,
    progress: Progress,
) -> tuple[float, float]:
    order = torch.randperm(len(labels), generator=generator(plan.seed, "shuffle", epoch), device="cpu")
    draws = [generator(plan.seed, f"batches{number or ''}", epoch) for number in range(plan.replicas)]
    parts = order.split(plan.batch_size)
    device, seen = device_of(replicas.networks[0]), 0
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    for number, part in enumerate(parts):
        step, steps = epoch * len(parts) + number, plan.epochs * len(parts)
        rate = plan.schedule(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = images_to_float(images[part]).to(device).contiguous(memory_format=MEMORY_FORMAT)
        optimizer.zero_grad(set_to_none=True)
        pieces = (tensor.chunk(plan.replicas) for tensor in (x, labels[part].to(device), part))
        batches = [
            Batch(*one, step=step, steps=steps, epoch=step / len(parts)) for one in zip(*pieces, draws, strict=False)
        ]
        result = replicas.backward(method, batches, plan.dtype)
        optimizer.step()
        loss_sum += result.loss * result.n
        correct += result.correct
        seen += result.n
        progress(epoch * len(labels) + min((number + 1) * plan.batch_size, len(labels)), plan.epochs * len(labels))
    mean = float(loss_sum) / seen
    if not np.isfinite(mean):
        raise NonFiniteError("the training loss is not finite", where=f"epoch {epoch + 1}", got=mean)
    return mean, int(correct) / seen


@torch.no_grad()
def _validate(network: nn.Module, dataset: Dataset, dtype: torch.dtype) -> tuple[float, float]:
    network.eval()
    loss, correct, device = 0.0, 0, device_of(network)
    for start in range(0, len(dataset), VALIDATION_BATCH):
        x = images_to_float(dataset.images[start : start + VALIDATION_BATCH]).to(device)
        y = torch.from_numpy(np.array(dataset.labels[start : start + VALIDATION_BATCH])).to(device)
        with lower_precision(dtype, device):
            logits = network(x.contiguous(memory_format=MEMORY_FORMAT)).float()
        loss += float(nn.functional.cross_entropy(logits, y, reduction="sum"))
        correct += int((logits.argmax(dim=1) == y).sum())
    return loss / len(dataset), correct / len(dataset)
