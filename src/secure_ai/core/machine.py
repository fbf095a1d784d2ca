"""What machine this is, without torch: for run records, forecasts and cache keys."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")
BF16_UNITS = frozenset({"amx_bf16", "avx512_bf16"})


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


def describe_machine() -> dict[str, Any]:
    """For run.json: nothing that names the host or the user."""
    return {
        "system": platform.system(),
        "processor": cpu_name(),
        "cores": available_cores(),
        "bf16_units": sorted(cpu_flags() & BF16_UNITS),
        "python": platform.python_version(),
    }
