"""The one place that decides memory format and precision; it returns values and changes nothing.

How many threads torch has is the caller's affair; the command line decides in `cli/process.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from secure_ai.core.errors import UsageError
from secure_ai.core.machine import BF16_UNITS, cpu_flags

Precision = Literal["auto", "float32"]
MEMORY_FORMAT = torch.channels_last
MAX_THREADS = 1024
TRAINING_REPLICAS = 2
"""Parts in which runs and `train` compute every batch, whatever the cores: results depend on it."""


@dataclass(frozen=True, slots=True)
class Compute:
    """How this process computes.

    Attributes:
        threads: torch's.
        training_dtype: bfloat16 where the CPU multiplies it natively (AMX or AVX512-BF16), else float32.
    """

    threads: int
    training_dtype: torch.dtype

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return {"threads": self.threads, "training_dtype": str(self.training_dtype).removeprefix("torch.")}


def configure(precision: Precision = "auto") -> Compute:
    """Choose the precision of training.

    Args:
        precision: `auto`, or `float32` to use nothing else.

    Raises:
        UsageError: `OMP_NUM_THREADS` is not a whole number from 1 to 1024.
    """
    checked_threads(os.environ.get("OMP_NUM_THREADS", "") or "1", where="OMP_NUM_THREADS")
    flags = cpu_flags() if precision == "auto" else frozenset()
    return Compute(torch.get_num_threads(), torch.bfloat16 if flags & BF16_UNITS else torch.float32)


def checked_threads(text: str, *, where: str) -> int:
    """A number of threads. Raises UsageError for anything but a whole number from 1 to 1024."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_THREADS:
        raise UsageError("bad number of threads", where=where, expected=f"1 to {MAX_THREADS}", got=text)
    return int(text)


@contextlib.contextmanager
def lower_precision(dtype: torch.dtype) -> Iterator[None]:
    """Autocast the arithmetic of layers to `dtype`; float32 means no change.

    Without the cache of weights: the process has one, and a thread that leaves would empty it for the others.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16, cache_enabled=False):
        yield
