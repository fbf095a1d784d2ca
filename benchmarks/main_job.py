"""Seconds and memory of the main job: recipes from nothing, the same again with nothing changed, help.

    scripts/bench main_job [--recipes quick,standard] [--out FOLDER]

The folder must not hold earlier runs; the standard run is left in FOLDER/seed-42, for `must_reach`. Each run is a
process of its own; peak memory is that of the largest process, children counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _package import BF16_UNITS, cpu_flags
from _record import RESULTS, commit, save

COMMAND = [sys.executable, "-m", "secure_ai"]
LIMITS = {"quick": 90, "standard": 900, "report-1": 240, "report-2": 600}
HELP_RUNS = 7


def timed(words: list[str]) -> tuple[float, float]:
    """Seconds, and peak memory in GiB of the largest process, of one command that must succeed."""
    began = time.perf_counter()
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"{words} ended with {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss / 1024**2


def row(what: str, measured: tuple[float, float], bound_seconds: int) -> dict[str, Any]:
    """One line of the results."""
    seconds, memory = measured
    return {
        "what": what,
        "seconds": round(seconds, 1),
        "bound_seconds": bound_seconds,
        "peak_gib": round(memory, 2),
        "bound_gib": 1.5,
    }


def kept(measured: set[str]) -> list[dict[str, Any]]:
    """The rows of the last result that were not measured this time, each with the commit that it is of."""
    path = RESULTS / "main_job.json"
    if not path.exists():
        return []
    last = json.loads(path.read_text(encoding="utf-8"))
    return [{"commit": last["commit"], **entry} for entry in last["rows"] if entry["what"] not in measured]


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", default="quick,standard")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "secure-ai-main-job")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    times = [timed(["--help"])[0] for _ in range(HELP_RUNS)]
    rows.append({"what": "secure-ai --help", "seconds": round(statistics.median(times), 3), "bound_seconds": 0.5})
    load = [round(value, 2) for value in os.getloadavg()]
    for recipe in arguments.recipes.split(","):
        folder = arguments.out / ("seed-42" if recipe == "standard" else recipe)
        if folder.exists():
            raise SystemExit(f"{folder} exists: a run there would not start from nothing")
        words = ["run", "--recipe", recipe, "--out", str(folder)]
        rows.append(row(f"run --recipe {recipe}", timed(words), LIMITS[recipe]))
        rows.append(row(f"the same again ({recipe})", timed(words), 10))
    for entry in rows:
        entry["commit"] = commit()
        print(entry)
    content = {
        "rows": [*rows, *kept({entry["what"] for entry in rows})],
        "bf16_units": sorted(cpu_flags() & BF16_UNITS),
        "load_before": load,
    }
    save("main_job", f"scripts/bench main_job --recipes {arguments.recipes}", content)


if __name__ == "__main__":
    main()
