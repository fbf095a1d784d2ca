"""The one place that decides threads, memory format and precision.

Measured on the reference machine (2 cores): with any other load two OpenMP threads can be 2-7 times slower than one
unless idle threads sleep (`OMP_WAIT_POLICY=PASSIVE`, set in `secure_ai/__init__.py` before torch loads).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import torch

from secure_ai.core.errors import UsageError
from secure_ai.core.machine import BF16_UNITS, available_cores, cpu_flags, keep_memory

Precision = Literal["auto", "float32"]
MEMORY_FORMAT = torch.channels_last
TRAINING_REPLICAS = 2
"""Parts in which runs and `train` compute every batch, whatever the cores: results depend on it."""


@dataclass(frozen=True, slots=True)
class Compute:
    """How this process computes.

    Attributes:
        training_dtype: bfloat16 where the CPU multiplies it natively (AMX or AVX512-BF16), else float32.
    """

    threads: int
    training_dtype: torch.dtype

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "threads": self.threads,
            "training_dtype": str(self.training_dtype).removeprefix("torch."),
        }


def configure(precision: Precision = "auto", threads: int | None = None) -> Compute:
    """Set torch's threads and what the allocator keeps, and choose the precision of training.

    Args:
        precision: `auto`, or `float32` to use nothing else.
        threads: default: `OMP_NUM_THREADS` where set, else every core this process may use.

    Raises:
        UsageError: `OMP_NUM_THREADS` or `threads` is not a whole number from 1 to 1024.
    """
    text = str(threads) if threads is not None else os.environ.get("OMP_NUM_THREADS", "") or str(available_cores())
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1024:
        raise UsageError("bad number of threads", where="OMP_NUM_THREADS", expected="1 to 1024", got=text)
    torch.set_num_threads(int(text))
    keep_memory()
    flags = cpu_flags() if precision == "auto" else frozenset()
    return Compute(int(text), torch.bfloat16 if flags & BF16_UNITS else torch.float32)


@contextlib.contextmanager
def lower_precision(dtype: torch.dtype) -> Iterator[None]:
    """Autocast the arithmetic of layers to `dtype`; float32 means no change.

    Without the cache of weights: the process has one, and a thread that leaves would empty it for the others.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16, cache_enabled=False):
        yield


@contextlib.contextmanager
def workers(count: int, name: str) -> Iterator[Executor]:
    """`count` threads of their own, each of which computes with its part of torch's threads; `name` is for debuggers.

    Torch's number of threads is afterwards as it was: a worker's would be that of every thread to come.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, name, torch.set_num_threads, (threads // count,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
