"""What stands before the work: environment, data, the start of a command; and the share of `quick` that trains."""

from __future__ import annotations

import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _environment import ROOT
from _package import build_network, generator, save_model
from _processes import spent

if TYPE_CHECKING:
    from pipeline import Bench

COMMAND = (sys.executable, "-m", "secure_ai")
STARTS = 5
TRAININGS = ("baseline", "defended-p", "defended-l", "poisoned", "badnets")
BOUNDS = {"environment and data": 240.0, "secure-ai --help": 0.5, "a command that needs torch": 2.5}


def environment_and_data(work: Path) -> dict[str, Any]:
    """A fresh clone of this commit, its environment by its own scripts, the data into an empty cache."""
    clone, cache = work / "clone", work / "cache"
    for folder in (clone, cache):
        shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    made = spent([str(clone / "scripts" / "run"), "--help"], cwd=clone, log=work / "environment.log")
    words = [str(clone / ".venv" / "bin" / "secure-ai"), "data", "fetch", "mnist"]
    fetched = spent(words, environment={**os.environ, "XDG_CACHE_HOME": str(cache)}, log=work / "data.log")
    for folder in (clone, cache):
        shutil.rmtree(folder)
    return {
        "environment_seconds": round(made.seconds, 1),
        "data_seconds": round(fetched.seconds, 1),
        "seconds": round(made.seconds + fetched.seconds, 1),
        "bound_seconds": BOUNDS["environment and data"],
    }


def starts(work: Path, what: str, words: list[str]) -> dict[str, Any]:
    """The median of several starts after one that warms the disk cache."""
    times = [spent([*COMMAND, *words], log=work / "start.log").seconds for _ in range(STARTS + 1)][1:]
    return {
        "command": "secure-ai " + " ".join(Path(word).name if Path(word).is_absolute() else word for word in words),
        "seconds": round(statistics.median(times), 3),
        "slowest_seconds": round(max(times), 3),
        "runs": STARTS,
        "bound_seconds": BOUNDS[what],
    }


def untrained(folder: Path) -> str:
    """A file of report 1's network as it starts."""
    path = folder / "untrained.safetensors"
    save_model(build_network("report1-cnn", generator=generator(0, "start")), path, arch="report1-cnn")
    return str(path)


def share_of_training(work: Path, small: bool) -> dict[str, Any]:
    """`quick` from nothing: seconds that train, that measure, and that are in no stage."""
    out = work / "quick"
    shutil.rmtree(out, ignore_errors=True)
    tiny = ["--set", "data.train=mnist:train~1000", "--set", "data.test=mnist:test~300"] if small else []
    taken = spent([*COMMAND, "run", "--recipe", "quick", "--out", str(out), *tiny], log=work / "quick.log")
    seconds = json.loads((out / "run.json").read_text(encoding="utf-8"))["run"]["stage_seconds"]
    training = sum(value for name, value in seconds.items() if name.removeprefix("report-1/") in TRAININGS)
    in_stages = sum(seconds.values())
    shutil.rmtree(out)
    return {
        "command": "secure-ai run --recipe quick",
        "seconds": round(taken.seconds, 1),
        "training_share": round(100 * training / taken.seconds, 1),
        "other_stages_share": round(100 * (in_stages - training) / taken.seconds, 1),
        "no_stage_share": round(100 * (1 - in_stages / taken.seconds), 1),
        "stage_seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def measure(bench: Bench) -> None:
    """Set-up, two starts, and `quick`."""
    work, small = bench.arguments.work, bench.arguments.small
    if not small:
        bench.measure("setup", {"what": "environment and data"}, lambda: environment_and_data(work))
    model = ["attack", "--model", untrained(work), "--attack", "fgsm", "--norm", "linf", "--eps", "0.1", "--data",
             "mnist:test:1"]  # fmt: skip
    for what, words in (("secure-ai --help", ["--help"]), ("a command that needs torch", model)):
        bench.measure("setup", {"what": what}, functools.partial(starts, work, what, words))
    bench.measure("setup", {"what": "quick", "small": small}, lambda: share_of_training(work, small))
