"""Commands as processes of their own, with what each took."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spent:
    """Wall seconds, processor seconds with children, peak memory in GiB of the largest process, standard output."""

    seconds: float
    cpu_seconds: float
    peak_gib: float
    output: str


def spent(
    words: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None, log: Path
) -> Spent:
    """Run a command that must succeed; what it prints goes to `log`, which is named when it fails.

    `environment` replaces that of this process.
    """
    began = time.perf_counter()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            list(words), cwd=cwd, env=environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}; see {log}")
    text = log.read_text(encoding="utf-8", errors="replace")
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024**2, text)
