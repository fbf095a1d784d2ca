"""Commands as processes of their own, with what each took."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("_launcher.py")


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
    report = log.with_suffix(".took")
    report.unlink(missing_ok=True)
    with log.open("w", encoding="utf-8") as output:
        subprocess.run(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(report), *words], cwd=cwd, env=environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=True,
        )  # fmt: skip
    took = json.loads(report.read_text(encoding="utf-8"))
    if took["returncode"]:
        raise SystemExit(f"{' '.join(words)} ended with {took['returncode']}; see {log}")
    text = log.read_text(encoding="utf-8", errors="replace")
    return Spent(took["seconds"], took["cpu_seconds"], took["peak_kib"] / 1024**2, text)
