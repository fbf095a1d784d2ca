"""The one place that decides device, memory format and precision; it returns values and changes nothing.

How many threads torch has is the caller's affair; the command line decides in `cli/process.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from secure_ai.core.errors import EnvironmentFailedError, UsageError
from secure_ai.core.machine import BF16_UNITS, cpu_flags

Precision = Literal["auto", "float32"]
Device = Literal["auto", "cpu", "cuda"]
MEMORY_FORMAT = torch.channels_last
MAX_THREADS = 1024
CPU = torch.device("cpu")
TRAINING_REPLICAS = 2
"""Parts in which runs and `train` compute every batch, whatever the cores: results depend on it."""


@dataclass(frozen=True, slots=True)
class Compute:
    """How this process computes.

    Attributes:
        threads: torch's.
        training_dtype: bfloat16 where the CPU multiplies it natively (AMX or AVX512-BF16), or on a GPU that does; else
            float32.
        device: of networks and images; random numbers are drawn on the CPU and moved.
    """

    threads: int
    training_dtype: torch.dtype
    device: torch.device

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        dtype = str(self.training_dtype).removeprefix("torch.")
        return {"threads": self.threads, "training_dtype": dtype, "device": device_name(self.device)}


def configure(precision: Precision = "auto", device: Device = "cpu") -> Compute:
    """Choose the device, and the precision of training.

    Args:
        precision: `auto`, or `float32` to use nothing else.
        device: as of `choose_device`.

    Raises:
        UsageError: `OMP_NUM_THREADS` is not a whole number from 1 to 1024, or no such device.
        EnvironmentFailedError: `cuda` where there is no GPU.
    """
    checked_threads(os.environ.get("OMP_NUM_THREADS", "") or "1", where="OMP_NUM_THREADS")
    chosen = choose_device(device)
    return Compute(torch.get_num_threads(), _training_dtype(precision, chosen), chosen)


def choose_device(device: Device) -> torch.device:
    """`auto` is a GPU where torch can use one, else the CPU.

    Raises:
        UsageError: another word.
        EnvironmentFailedError: `cuda` where torch can use none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError("no such device", where="--device", expected="auto, cpu or cuda", got=device)
    if device == "cpu":
        return CPU
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if device == "cuda":
        got = "none" if torch.backends.cuda.is_built() else "a torch that is built for the CPU only"
        raise EnvironmentFailedError("no GPU that torch can use", where="--device", expected="an NVIDIA GPU and driver",
                                     got=got, hint="--device cpu")  # fmt: skip
    return CPU


def device_of(network: torch.nn.Module) -> torch.device:
    """Where the network's weights are; the CPU where it has none."""
    first = next(network.parameters(), next(network.buffers(), None))
    return CPU if first is None else first.device


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's name: results differ between kinds of GPU."""
    return "cpu" if device.type == "cpu" else f"{device.type}: {torch.cuda.get_device_name(device)}"


def _training_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "float32":
        return torch.float32
    native = bool(cpu_flags() & BF16_UNITS) if device.type == "cpu" else torch.cuda.is_bf16_supported()
    return torch.bfloat16 if native else torch.float32


@contextlib.contextmanager
def exact_kernels(device: torch.device) -> Iterator[None]:
    """Inside, a GPU computes in full float32 and the same twice; what was set before is put back. Nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32)
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def checked_threads(text: str, *, where: str) -> int:
    """A number of threads. Raises UsageError for anything but a whole number from 1 to 1024."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_THREADS:
        raise UsageError("bad number of threads", where=where, expected=f"1 to {MAX_THREADS}", got=text)
    return int(text)


@contextlib.contextmanager
def lower_precision(dtype: torch.dtype, device: torch.device = CPU) -> Iterator[None]:
    """Autocast the arithmetic of layers to `dtype`; float32 means no change.

    Without the cache of weights: the process has one, and a thread that leaves would empty it for the others.
    """
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16, cache_enabled=False):
        yield
