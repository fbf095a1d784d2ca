"""What machine this is, without torch: for run records, forecasts and cache keys."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")
BF16_UNITS = frozenset({"amx_bf16", "avx512_bf16"})
MALLOC_OPTIONS = {-1: 64 << 20, -3: 32 << 20}
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's mallopt, in bytes."""


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of this CPU as Linux names them; empty elsewhere."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))


@cache
def cpu_name() -> str:
    """The processor's name as Linux gives it, else the architecture."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory() -> None:
    """Keep up to 64 MiB of freed memory at hand for every thread, where the C library can; for the whole process.

    It gives memory back at every step of an attack and fetches it again: of APGD-T on two threads and MNIST that was
    2.7 to 4.1 of 30 s of processor time, with these limits 0.5 to 0.7. AutoAttack's peak memory was 459 to 581 MiB in
    three runs (median 467), without them 438 to 469 (452).
    """
    try:
        for option, value in MALLOC_OPTIONS.items():
            ctypes.CDLL(None).mallopt(option, value)
    except (OSError, AttributeError, TypeError):
        return  # no glibc: nothing to do


def release_memory() -> None:
    """Give freed memory back to the system, where the C library can: it would keep gigabytes between stages."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # no glibc: nothing to do


def describe_machine() -> dict[str, Any]:
    """For run.json: nothing that names the host or the user."""
    return {
        "system": platform.system(),
        "processor": cpu_name(),
        "cores": available_cores(),
        "bf16_units": sorted(cpu_flags() & BF16_UNITS),
        "python": platform.python_version(),
    }
