"""Is the tool as fast as at an earlier commit? The same commands by both checkouts, one after the other, in pairs.

    git worktree add ../earlier COMMIT && ../earlier/scripts/test --version
    scripts/bench earlier --earlier ../earlier --model secure_ai_outputs/models/baseline_cnn.safetensors [--pairs 3]

Which of a pair comes first changes from pair to pair. A ratio is earlier / now of the processor time of the whole
command with what it starts, so above 1 is faster than it was: the median of the pairs, and that of the least of each
side, which other work on the machine disturbs less; wall time stands beside them. Each command is run once by
both before any pair counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _processes import Spent, spent
from _record import ROOT, rows_with, save

USERS_MODULE = '''\
"""A user's own module, with a forward of its own, for report 1's weights."""
from torch import nn
from torch.nn import functional as F

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.dense1, self.dense2 = nn.Linear(1600, 128), nn.Linear(128, 10)

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.conv1(x * 2 / 2)), 2)
        h = F.max_pool2d(F.relu(self.conv2(h)), 2)
        return self.dense2(F.relu(self.dense1(h.flatten(1))))

def make():
    return Mine()
'''
BASE = ("attack", "--norm", "linf", "--eps", "0.1", "--json", "--quiet")


def commands(model: Path, users: Path, n: int) -> dict[str, tuple[str, ...]]:
    """Name -> the words after `secure-ai`. `autoattack` has so few images because it takes ten times as long."""
    weights = ("--model", str(model))
    built_in, mine = (*weights, "--arch", "report1-cnn"), (*weights, "--arch", f"{users}:make")
    return {
        "fast": (*BASE, *built_in, "--attack", "fast", "--data", f"mnist:test:{n}"),
        "autoattack": (*BASE, *built_in, "--attack", "autoattack", "--data", f"mnist:test:{n // 4}"),
        "fast, a user's module": (*BASE, *mine, "--attack", "fast", "--data", f"mnist:test:{n}"),
        "help": ("--help",),
    }


def one(checkout: Path, words: tuple[str, ...], threads: int, folder: Path) -> Spent:
    """One command by the tool of a checkout, in an empty folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": "1"}
    python = checkout / ".venv" / "bin" / "python"
    return spent([str(python), "-m", "secure_ai", *words], cwd=folder, environment=environment, log=folder / "log")


def compared(
    checkouts: Mapping[str, Path], words: tuple[str, ...], pairs: int, threads: int, folder: Path
) -> dict[str, Any]:
    """Seconds of every run, and the median ratio of the pairs."""
    sides = list(checkouts)
    for side in sides:
        one(checkouts[side], words, threads, folder)
    runs: dict[str, list[Spent]] = {side: [] for side in sides}
    for number in range(pairs):
        for side in sides if number % 2 == 0 else sides[::-1]:
            runs[side].append(one(checkouts[side], words, threads, folder))
    both = list(zip(runs["earlier"], runs["now"], strict=True))
    return {
        "command": " ".join(words),
        "threads": threads,
        "ratio_cpu": round(statistics.median(old.cpu_seconds / new.cpu_seconds for old, new in both), 3),
        "ratio_of_least_cpu": round(
            min(old.cpu_seconds for old, _ in both) / min(new.cpu_seconds for _, new in both), 3
        ),
        "ratio_wall": round(statistics.median(old.seconds / new.seconds for old, new in both), 3),
        "cpu_seconds": {side: [round(run.cpu_seconds, 2) for run in runs[side]] for side in sides},
        "wall_seconds": {side: [round(run.seconds, 2) for run in runs[side]] for side in sides},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", type=Path, required=True, help="a checkout with its own .venv")
    parser.add_argument("--model", type=Path, required=True, help="report 1's network, safetensors")
    parser.add_argument("--n", type=int, default=400, help="images for `fast`; a quarter of them for `autoattack`")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of commands; default: all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    checkouts = {"earlier": options.earlier.resolve(), "now": ROOT}
    rows = {}
    with tempfile.TemporaryDirectory(prefix="earlier-") as name:
        folder = Path(name)
        users = folder / "mine.py"
        users.write_text(USERS_MODULE, encoding="utf-8")
        for threads in options.threads:
            for what, words in commands(options.model.resolve(), users, options.n).items():
                if options.only and what not in options.only:
                    continue
                row = compared(checkouts, words, options.pairs, threads, folder)
                row["command"] = (
                    row["command"].replace(str(folder) + "/", "").replace(str(options.model.resolve()), "M")
                )
                rows[f"{what}, {threads} threads"] = row
                print(
                    f"{what}, {threads} threads: {row['ratio_cpu']} (processor), {row['ratio_wall']} (wall)", flush=True
                )
    command = f"scripts/bench earlier --earlier FOLDER --model M --n {options.n} --pairs {options.pairs}"
    save("earlier", command, {"rows": rows_with("earlier", rows)})


if __name__ == "__main__":
    main()
