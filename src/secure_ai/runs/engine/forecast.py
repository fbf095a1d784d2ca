"""Seconds a stage will take: its passes times the time of a pass, measured here and now."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import nn

from secure_ai.core.compute import MEMORY_FORMAT, configure, device_of, lower_precision
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.tensors import to_channels_last
from secure_ai.runs.engine.measure import Passes

BATCH = 128
REPEATS = 3
ENOUGH_SECONDS = 1.0  # of tries: a network that is so slow need not be timed again
REFERENCE_ARCH = "report1-cnn"  # for a network that cannot be timed before it is loaded
OVERHEAD_SECONDS = 0.3  # loading the network, writing the result


@cache
def sample_seconds(arch: str, precision: Literal["auto", "float32"]) -> Passes:
    """Seconds of one sample forward, backward to its pixels, and through a training step of `arch`."""
    known = arch if arch in NETWORKS else REFERENCE_ARCH
    network = build_network(known, generator=torch.Generator().manual_seed(0))
    return network_seconds(network, NETWORKS[known].input_shape, configure(precision).training_dtype)


def network_seconds(network: nn.Module, input_shape: tuple[int, int, int], dtype: torch.dtype) -> Passes:
    """The same of any network (N, C, H, W) -> (N, K), where its weights are; they get gradients.

    Args:
        dtype: that it is trained in.
    """
    network, device = to_channels_last(network), device_of(network)
    x = torch.zeros((BATCH, *input_shape), device=device).contiguous(memory_format=MEMORY_FORMAT)
    y = torch.zeros(BATCH, dtype=torch.int64, device=device)

    def forward() -> None:
        with torch.no_grad():
            network(x)

    def backward() -> None:
        point = x.clone().requires_grad_(True)
        network.requires_grad_(False)
        torch.autograd.grad(network(point).sum(), point)
        network.requires_grad_(True)

    def training() -> None:
        network.zero_grad()
        with lower_precision(dtype, device):
            logits = network(x).float()
        nn.functional.cross_entropy(logits, y).backward()

    once, there_and_back, learned = (fastest(step, device) / BATCH for step in (forward, backward, training))
    return Passes(once, max(there_and_back - once, 0.0), learned)


def fastest(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few tries, after one that warms up: others only add to it."""
    step()
    tries: list[float] = []
    while len(tries) < REPEATS and sum(tries) < ENOUGH_SECONDS:
        _finish(device)
        began = time.perf_counter()
        step()
        _finish(device)
        tries.append(time.perf_counter() - began)
    return min(tries)


def _finish(device: torch.device) -> None:
    """Wait for what a GPU still computes: its calls return before they are done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def work_seconds(passes: Passes, one: Passes) -> float:
    """Seconds of `passes`, where a sample takes the seconds `one`."""
    return passes.forward * one.forward + passes.backward * one.backward + passes.training * one.training


def seconds(passes: Passes, arch: str, precision: Literal["auto", "float32"]) -> float:
    """Forecast for `passes` through `arch` on this machine."""
    return OVERHEAD_SECONDS + work_seconds(passes, sample_seconds(arch, precision))
