"""What `harden` and `hardened` can be asked for, as keywords that editors complete and mypy checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Required, TypedDict

from secure_ai.blue.training.hardening import OptimizerName
from secure_ai.core.compute import Device, Precision
from secure_ai.core.events import EventSink


class HardenOptions(TypedDict, total=False):
    """The keywords of `hardened`, which explains them; `norm` and `eps` are required."""

    norm: Required[str]
    eps: Required[str | float]
    method: str
    out: str | Path | None
    adversary: str
    awp: float
    epochs: int | None
    batch_size: int
    learning_rate: float | None
    optimizer: OptimizerName
    time_budget: str | float | None
    patience: int
    n: int | None
    resize: int | None
    seed: int
    device: Device
    precision: Precision
    events: EventSink
    progress: Callable[[int, int], None]
