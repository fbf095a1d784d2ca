"""What a library must not do to the process of its caller."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import secure_ai
from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(x.flatten(1))
        return logits


def process() -> tuple[Any, ...]:
    """What every other line of the caller's program would notice."""
    arrays = np.random.get_state(legacy=True)  # the caller's own
    numbers = (random.getstate(), arrays[1].tobytes(), arrays[2], torch.get_rng_state().tolist())  # type: ignore[index]
    modes = (torch.is_grad_enabled(), torch.get_default_dtype(), torch.is_autocast_enabled("cpu"))
    return torch.get_num_threads(), dict(os.environ), numbers, modes


def test_an_attack_leaves_the_process_and_the_network_alone(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=draw.random((24, 1, 4, 4), np.float32), y=draw.integers(0, 4, 24))
    network, before = Own().train(), process()
    secure_ai.attack(network, str(tmp_path / "d.npz"), norm="linf", eps="0.1", attack="fgsm,noise")
    assert process() == before
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_suite_on_threads_leaves_the_process_alone() -> None:
    draw, count = torch.Generator().manual_seed(0), torch.get_num_threads()
    x, y = torch.rand((512, 1, 4, 4), generator=draw), torch.randint(0, 4, (512,), generator=draw)
    target = NetworkTarget(Own(), name="own", digest="", input_shape=(1, 4, 4), num_classes=4)
    torch.set_num_threads(2)
    try:
        before = process()
        run_suite(target, x, y, budget=PerturbationBudget("linf", 0.1), attacks=parse_attacks("fgsm,noise"), seed=0)
        assert process() == before
    finally:
        torch.set_num_threads(count)
