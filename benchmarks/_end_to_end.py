"""Report 1's protocol from start to end: this tool against TensorFlow + ART and against plain PyTorch + Foolbox."""

from __future__ import annotations

import functools
import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _environment import ROOT, make_environment
from _processes import spent

if TYPE_CHECKING:
    from pipeline import Bench

PROGRAMS = ROOT / "benchmarks" / "report1"
SIDES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ours-auto": ("ours.py", ("--precision", "auto")),
    "tensorflow": ("tensorflow_art.py", ()),
    "ours-float32": ("ours.py", ("--precision", "float32")),
    "pytorch": ("pytorch_foolbox.py", ()),
}
TARGETS: dict[tuple[str, str, str], float] = {
    ("L", "tensorflow", "ours-auto"): 5.0,
    ("P", "tensorflow", "ours-auto"): 4.0,
    ("L", "tensorflow", "ours-float32"): 1.5,
    ("P", "tensorflow", "ours-float32"): 1.5,
    ("L", "pytorch", "ours-auto"): 2.5,
    ("P", "pytorch", "ours-auto"): 2.5,
    ("L", "pytorch", "ours-float32"): 1.2,
    ("P", "pytorch", "ours-float32"): 1.2,
}
"""(version, peer, ours) -> the ratio of seconds to reach; the targets of `auto` are for bf16 matrix units."""
ENOUGH_PAIRS = 5


def tensorflow_python(folder: Path) -> Path:
    """The Python of TensorFlow's side."""
    requirements = "benchmarks/report1/tensorflow.txt"
    install = ("--only-binary=:all:", "--no-deps", "-r", str(ROOT / requirements))
    return make_environment(folder, ".secure-ai-tensorflow", (requirements,), (install,))


def run_side(bench: Bench, side: str, version: str, seed: int) -> dict[str, Any]:
    """One side in a fresh process, from its start to its end."""
    a = bench.arguments
    program, words = SIDES[side]
    python = tensorflow_python(a.tensorflow) if side == "tensorflow" else Path(sys.executable)
    out = a.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    load = [round(value, 2) for value in os.getloadavg()]
    command = [
        str(python), str(PROGRAMS / program), "--data", str(bench.mnist()), "--out", str(out), "--version", version,
        "--seed", str(seed), "--epochs", str(a.epochs), "--defence-epochs", str(a.epochs), "--images", str(a.images),
        *words,
    ]  # fmt: skip
    # Importing this package sets how idle OpenMP threads wait: a choice of ours, which the peers must not inherit.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if program == "ours.py":
        environment["PYTHONPATH"] = str(PROGRAMS.parent)  # for `_package`
    taken = spent(command, environment=environment, log=a.work / f"{side}.log")
    found = json.loads((out / "result.json").read_text(encoding="utf-8"))
    shutil.rmtree(out)
    return {
        "seconds": round(taken.seconds, 2),
        "cpu_seconds": round(taken.cpu_seconds, 2),
        "peak_gib": round(taken.peak_gib, 2),
        "stage_seconds": found["seconds"],
        "shares": found["shares"],
        "losses": found["losses"],
        "versions": found["versions"],
        "threads": found["threads"],
        "load_before": load,
    }


def measure(bench: Bench) -> None:
    """Every side for every seed, one after the other, in alternating order; then the ratios of each pair."""
    a = bench.arguments
    sides = [side for side in SIDES if side in a.sides.split(",")]
    entries = []
    for version in a.versions.split(","):
        for number, seed in enumerate(int(text) for text in a.seeds.split(",")):
            for side in sides if number % 2 == 0 else sides[::-1]:
                key = {"version": version, "seed": seed, "side": side, "epochs": a.epochs, "images": a.images}
                entries.append(
                    bench.measure("end-to-end", key, functools.partial(run_side, bench, side, version, seed))
                )
    bench.add("ratios", ratios(entries))
    bench.add("accuracies", accuracies(entries))


def _pairs(
    entries: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, str, str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]]]:
    """(version, peer, ours, runs of the same seed) for every target that was measured."""
    runs = {(entry["version"], entry["side"], entry["seed"]): entry for entry in entries}
    for version, peer, ours in TARGETS:
        seeds = [s for v, side, s in runs if (v, side) == (version, ours) and (version, peer, s) in runs]
        if seeds:
            yield version, peer, ours, [(runs[version, ours, s], runs[version, peer, s]) for s in seeds]


def ratios(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The peer's seconds over ours, pair by pair of the same seed, with medians, beside the target."""
    rows = []
    for version, peer, ours, pairs in _pairs(entries):
        every = [theirs["seconds"] / mine["seconds"] for mine, theirs in pairs]
        ratio, target = statistics.median(every), TARGETS[version, peer, ours]
        rows.append(
            {
                "version": version,
                "peer": peer,
                "side": ours,
                "pairs": len(pairs),
                "ratio": round(ratio, 3),
                "cpu_ratio": round(statistics.median(t["cpu_seconds"] / m["cpu_seconds"] for m, t in pairs), 3),
                "ratios": [round(value, 3) for value in every],
                "ours_seconds": round(statistics.median(mine["seconds"] for mine, _ in pairs), 2),
                "peer_seconds": round(statistics.median(theirs["seconds"] for _, theirs in pairs), 2),
                "target": target,
                "reached": ratio >= target if len(pairs) >= ENOUGH_PAIRS else None,
            }
        )
    return rows


def accuracies(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every figure of both sides over the seeds, in percent; `within`: the means differ by no more than a spread.

    The spread is that of the side with the wider one, its largest value minus its smallest. One seed has none.
    """
    rows = []
    for version, peer, ours, pairs in _pairs(entries):
        for figure in pairs[0][0]["shares"]:
            sides = [[100 * run[side]["shares"][figure]["value"] for run in pairs] for side in (0, 1)]
            means = [statistics.fmean(side) for side in sides]
            spread = max(max(side) - min(side) for side in sides)
            difference = means[0] - means[1]
            rows.append(
                {
                    "version": version,
                    "peer": peer,
                    "side": ours,
                    "figure": figure,
                    "n": int(pairs[0][0]["shares"][figure]["n"]),
                    "seeds": len(pairs),
                    "ours_mean": round(means[0], 3),
                    "ours_lowest": round(min(sides[0]), 3),
                    "peer_mean": round(means[1], 3),
                    "peer_lowest": round(min(sides[1]), 3),
                    "difference": round(difference, 3),
                    "spread": round(spread, 3),
                    "within": abs(difference) <= spread if len(pairs) > 1 else None,
                }
            )
    return rows
