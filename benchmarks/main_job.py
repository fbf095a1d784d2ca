"""Seconds and memory of the main job: recipes from nothing, the same again with nothing changed, help.

    scripts/bench main_job [--recipes quick,standard,small] [--out FOLDER]

The folder must not hold earlier runs; the standard run is left in FOLDER/seed-42, for `must_reach`. Each run is a
process of its own; peak memory is that of the largest process, children counted. `small` is no recipe but `attack` with
the suite `fast` on 1,000 colour images of a user's small model, and where its time goes.
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
from _record import RESULTS, commit, machine, save

COMMAND = [sys.executable, "-m", "secure_ai"]
SMALL_LIMIT = 60
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


def small(folder: Path) -> dict[str, Any]:
    """The row of `attack` with `fast` on a small model: wall and processor seconds, and where they go."""
    from _small_model import make, passes_seconds

    folder.mkdir(parents=True)
    model, factory, data = make(folder)
    words = ["attack", str(model), "--arch", f"{factory}:build", "--data", str(data)]
    words += ["--norm", "linf", "--eps", "8/255", "--attack", "fast", "--json"]
    began, before = time.perf_counter(), os.times()
    done = subprocess.run([*COMMAND, *words], capture_output=True, check=True)
    seconds, after = time.perf_counter() - began, os.times()
    found = json.loads(done.stdout)
    attacks: dict[str, float] = {}
    for entry in found["attacks"]:
        attacks[entry["name"]] = round(attacks.get(entry["name"], 0) + entry["seconds"], 1)
    forward, backward = (sum(entry[f"{way}_passes"] for entry in found["attacks"]) for way in ("forward", "backward"))
    bare = passes_seconds(data, forward, backward)
    processor = sum(after[2:4]) - sum(before[2:4])  # of the children
    return {
        "what": "attack --attack fast, 1,000 images 3x32x32, 15,862 parameters, linf 8/255",
        "seconds": round(seconds, 1),
        "bound_seconds": SMALL_LIMIT,
        "processor_seconds": round(processor, 1),
        "attack_seconds": attacks,
        "bare_passes_seconds": round(bare, 1),  # the same passes of the bare network, 256 images at once
        "probe_seconds": round(found["probe_seconds"], 1),
        "other_seconds": round(seconds - sum(attacks.values()) - found["probe_seconds"], 1),
        "robust_accuracy": found["robust_accuracy"]["value"],
        "verdict": found["trust"]["verdict"],
    }


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
    """The rows of the last result that were not measured this time, with the commit and machine that each is of."""
    path = RESULTS / "main_job.json"
    if not path.exists():
        return []
    last = json.loads(path.read_text(encoding="utf-8"))
    return [entry for entry in last["rows"] if entry["what"] not in measured]


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
        if recipe == "small":
            rows.append(small(arguments.out / recipe))
            continue
        folder = arguments.out / ("seed-42" if recipe == "standard" else recipe)
        if folder.exists():
            raise SystemExit(f"{folder} exists: a run there would not start from nothing")
        words = ["run", "--recipe", recipe, "--out", str(folder)]
        rows.append(row(f"run --recipe {recipe}", timed(words), LIMITS[recipe]))
        rows.append(row(f"the same again ({recipe})", timed(words), 10))
    for entry in rows:
        entry |= {"commit": commit(), "machine": machine()}
        print(entry)
    content = {
        "rows": [*rows, *kept({entry["what"] for entry in rows})],
        "bf16_units": sorted(cpu_flags() & BF16_UNITS),
        "load_before": load,
    }
    save("main_job", f"scripts/bench main_job --recipes {arguments.recipes}", content)


if __name__ == "__main__":
    main()
