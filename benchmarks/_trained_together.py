"""Many networks trained together, each on its own images with its own recipe: Adam, as `blue.training.loop` does it.

Two things differ from that loop: a last batch that is not full is left out, and augmentation is drawn on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from _package import (
    MOST_SHIFTED,
    Batch,
    BatchLoss,
    Dataset,
    TrainingPlan,
    constant,
    derive_seed,
    generator,
    shifted,
    train,
    triangular,
)
from _stacked import Stack, forward, stacked
from torch import Tensor, nn
from torch.nn import functional

BETAS = (0.9, 0.999)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """One network's training.

    Attributes:
        network: with its first weights.
        rows: (n,) int64, its images: positions in the pool, or -1 - k for the k-th of `changed`.
        labels: (n,) int64.
        changed: (c, C, H, W) uint8, images that are not in the pool.
        moved, noise, smoothing: shifts, Gaussian noise (a deviation) and label smoothing while it learns.
    """

    network: nn.Module
    rows: np.ndarray
    labels: np.ndarray
    changed: np.ndarray
    epochs: int
    batch_size: int
    learning_rate: float
    peaked: bool
    seed: int
    adam_epsilon: float
    moved: bool = False
    noise: float = 0.0
    smoothing: float = 0.0

    @property
    def steps(self) -> int:
        """Gradient steps in all."""
        return self.epochs * (len(self.rows) // self.batch_size)


def train_together(
    arch: str,
    trainings: Sequence[Training],
    pool: Tensor,
    device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> Stack:
    """The trained networks, in the order of `trainings`, which share a batch size.

    Args:
        pool: (P, C, H, W) uint8 on `device`.
        check: called at each step; may raise to end the work.
    """
    order = sorted(range(len(trainings)), key=lambda index: -trainings[index].steps)
    own = [trainings[index] for index in order]
    images = torch.cat([pool, *(torch.from_numpy(one.changed).to(device) for one in own)])
    rows, labels = _tables(own, len(pool), device)
    rates = _rates(own, device)
    stack = stacked(arch, [one.network for one in own], device)
    flat, first, second = stack.flat, torch.zeros_like(stack.flat), torch.zeros_like(stack.flat)
    epsilon = torch.tensor([[one.adam_epsilon] for one in own], device=device)
    smoothing = torch.tensor([[one.smoothing] for one in own], device=device)
    change = _augmentation(own, device)
    for step in range(own[0].steps):
        check()
        active = sum(one.steps > step for one in own)
        x, y = images[rows[:active, step].long()].float().div_(255), labels[:active, step].long()
        gradient = _gradient(stack, flat[:active], change(x), y, smoothing[:active])
        m, v = first[:active], second[:active]
        m.mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
        v.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        divisor = (v / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(epsilon[:active])
        flat[:active].sub_(rates[:active, step, None] / (1 - BETAS[0] ** (step + 1)) * m / divisor)
    back = torch.tensor(np.argsort(order), device=device)
    return Stack(arch, flat[back])


def train_alone(training: Training, pool: np.ndarray, dtype: torch.dtype) -> nn.Module:
    """The same by the package's own loop, which is faster on a CPU.

    Args:
        pool: (P, C, H, W) uint8.
    """
    images = pool[np.maximum(training.rows, 0)]
    images[training.rows < 0] = training.changed[-1 - training.rows[training.rows < 0]]

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        x = batch.x
        if training.moved:
            x = shifted(x, torch.randint(-MOST_SHIFTED, MOST_SHIFTED + 1, (len(x), 2), generator=batch.generator))
        if training.noise:
            x = (x + training.noise * torch.randn(x.shape, generator=batch.generator)).clamp(0, 1)
        logits = network(x).float()
        loss = functional.cross_entropy(logits, batch.y, label_smoothing=training.smoothing)
        return BatchLoss(loss, (logits.detach().argmax(dim=1) == batch.y).sum(), len(batch.y))

    plan = TrainingPlan(
        epochs=training.epochs, batch_size=training.batch_size,
        schedule=(triangular if training.peaked else constant)(training.learning_rate), seed=training.seed,
        adam_epsilon=training.adam_epsilon, dtype=dtype, replicas=1,
    )  # fmt: skip
    train(training.network, Dataset(images, training.labels, "benchmark", 10), method=method, plan=plan)
    return training.network


def _gradient(stack: Stack, flat: Tensor, x: Tensor, y: Tensor, smoothing: Tensor) -> Tensor:
    weights = {name: value.detach().requires_grad_() for name, value in stack.weights(flat).items()}
    logits = forward(stack.arch, weights, x)
    log_p = logits.log_softmax(dim=2)
    hard = -log_p.gather(2, y[:, :, None])[:, :, 0]
    total = ((1 - smoothing) * hard - smoothing * log_p.mean(dim=2)).mean(dim=1).sum()
    return torch.cat([value.flatten(1) for value in torch.autograd.grad(total, list(weights.values()))], dim=1)


def _tables(own: Sequence[Training], pool: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which image (M, steps, batch) int32 and which label, uint8, each step takes."""
    size, longest = own[0].batch_size, own[0].steps
    rows = np.zeros((len(own), longest, size), dtype=np.int32)
    labels = np.zeros((len(own), longest, size), dtype=np.uint8)
    start = pool
    for number, one in enumerate(own):
        places = np.where(one.rows >= 0, one.rows, start - 1 - one.rows)
        start += len(one.changed)
        whole = len(one.rows) // size * size
        chosen = np.concatenate(
            [
                torch.randperm(len(one.rows), generator=generator(one.seed, "shuffle", epoch)).numpy()[:whole]
                for epoch in range(one.epochs)
            ]
        )
        rows[number, : one.steps] = places[chosen].reshape(-1, size)
        labels[number, : one.steps] = one.labels[chosen].reshape(-1, size)
    return torch.from_numpy(rows).to(device), torch.from_numpy(labels).to(device)


def _rates(own: Sequence[Training], device: torch.device) -> Tensor:
    rates = np.zeros((len(own), own[0].steps), dtype=np.float32)
    for number, one in enumerate(own):
        schedule = (triangular if one.peaked else constant)(one.learning_rate)
        rates[number, : one.steps] = [schedule(step, one.steps) for step in range(one.steps)]
    return torch.from_numpy(rates).to(device)


def _augmentation(own: Sequence[Training], device: torch.device) -> Callable[[Tensor], Tensor]:
    """What is done to the images (M, B, C, H, W) of a step: shifts and noise, for the networks that have them."""
    draws = torch.Generator(device).manual_seed(derive_seed("together", *(one.seed for one in own)))
    moved = torch.tensor([number for number, one in enumerate(own) if one.moved], dtype=torch.int64)
    noise = torch.tensor([one.noise for one in own], device=device).view(-1, 1, 1, 1, 1)
    any_noise = any(one.noise for one in own)

    def change(x: Tensor) -> Tensor:
        active = len(x)
        which = moved[moved < active]
        if len(which):
            chosen, most = x[which], MOST_SHIFTED
            shape = (chosen.shape[0] * chosen.shape[1], 2)
            offsets = torch.randint(-most, most + 1, shape, generator=draws, device=device)
            x[which] = shifted(chosen.flatten(0, 1), offsets).view(chosen.shape)
        if any_noise:
            drawn = torch.randn(x.shape, generator=draws, device=device)
            x = torch.where(noise[:active] > 0, (x + noise[:active] * drawn).clamp(0, 1), x)
        return x

    return change
