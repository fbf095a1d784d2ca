"""Seconds a stage will take: its passes times the time of a pass, measured here and now."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import nn

from secure_ai.core.compute import MEMORY_FORMAT, configure, lower_precision
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.tensors import to_channels_last
from secure_ai.runs.engine.measure import Passes

BATCH = 128
REPEATS = 3
REFERENCE_ARCH = "report1-cnn"  # for a network that cannot be timed before it is loaded
OVERHEAD_SECONDS = 0.3  # loading the network, writing the result


@cache
def sample_seconds(arch: str, precision: Literal["auto", "float32"]) -> Passes:
    """Seconds of one sample forward, backward to its pixels, and through a training step of `arch`."""
    known = arch if arch in NETWORKS else REFERENCE_ARCH
    network = to_channels_last(build_network(known, generator=torch.Generator().manual_seed(0)))
    x = torch.zeros((BATCH, *NETWORKS[known].input_shape)).contiguous(memory_format=MEMORY_FORMAT)
    y = torch.zeros(BATCH, dtype=torch.int64)
    dtype = configure(precision).training_dtype

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
        with lower_precision(dtype):
            logits = network(x).float()
        nn.functional.cross_entropy(logits, y).backward()

    once = _best(forward)
    return Passes(once, max(_best(backward) - once, 0.0), _best(training))


def _best(step: Callable[[], None]) -> float:
    """Seconds a sample of the fastest of a few tries: others only add to it."""
    step()
    tries = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        step()
        tries.append(time.perf_counter() - began)
    return min(tries) / BATCH


def seconds(passes: Passes, arch: str, precision: Literal["auto", "float32"]) -> float:
    """Forecast for `passes` through `arch` on this machine."""
    one = sample_seconds(arch, precision)
    work = passes.forward * one.forward + passes.backward * one.backward + passes.training * one.training
    return OVERHEAD_SECONDS + work
