"""The main job's speed: report 1's protocol against its own stack, a step against its products, set-up, cost, workers.

    scripts/bench pipeline [--rows end-to-end,step,setup,cost,workers] [--versions L,P] [--seeds 0,1,2,3,4] ...

TensorFlow's side runs in an environment of its own (`--tensorflow`, made where missing from report1/tensorflow.txt).
Every finished measurement is kept under `--work` and not taken again while the code it depends on is unchanged, so a
run that was stopped goes on. `--small` is a smoke test: tiny sizes, nothing saved.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from _kept import Kept
from _package import cache_folder, fetch, results_digest
from _processes import spent
from _record import ROOT, commit, machine, rows_with, save

ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "end-to-end": ("_end_to_end", ("report1/*",)),
    "step": ("_step", ("_step.py", "_products.py")),
    "setup": ("_setup", ("_setup.py", "../scripts/*", "../requirements*")),
    "cost": ("_cost", ("_cost.py", "_products.py")),
    "workers": ("_workers", ("_workers.py", "_cost.py", "_step.py")),
}
"""Row -> its module, and the files that decide its measurements besides the package."""


def parse() -> argparse.Namespace:
    work = Path(tempfile.gettempdir()) / "secure-ai-pipeline"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--versions", default="L,P", help="end-to-end: of report 1's protocol")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="end-to-end: one pair a seed")
    parser.add_argument("--sides", default="ours-auto,tensorflow,ours-float32,pytorch")
    parser.add_argument("--epochs", type=int, default=5, help="end-to-end: of every training; the protocol has 5")
    parser.add_argument("--images", type=int, default=0, help="end-to-end: the first N of both splits; 0: all")
    parser.add_argument("--pairs", type=int, default=5, help="step, workers")
    parser.add_argument("--tensorflow", type=Path, default=ROOT / ".venv-tensorflow")
    parser.add_argument("--work", type=Path, default=work)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--save", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.save, arguments.pairs = False, 1
        arguments.epochs, arguments.images, arguments.seeds = 1, 512, arguments.seeds.split(",")[0]
    return arguments


class Bench:
    """The run: its flags, the measurements kept, those of this run by row."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        arguments.work.mkdir(parents=True, exist_ok=True)
        self.kept = Kept(arguments.work / "measurements.json")
        self.used: dict[str, list[dict[str, Any]]] = {}
        self.commit = commit()
        self.code = ""

    def start(self, row: str) -> None:
        """Everything measured from now on depends on the files of `row`."""
        digest = hashlib.sha256(results_digest().encode())
        here = Path(__file__).parent
        for path in sorted(path for pattern in ROWS[row][1] for path in here.glob(pattern) if path.is_file()):
            digest.update(path.read_bytes())
        self.code = digest.hexdigest()

    def measure(self, row: str, key: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A measurement, taken once, printed and kept at once."""

        def taken() -> dict[str, Any]:
            load = [round(value, 2) for value in os.getloadavg()]
            return {**key, "machine": machine(), "load_before": load, "commit": self.commit, **work()}

        found = self.kept.take({"row": row, **key, "machine": machine(), "code": self.code}, taken)
        self.used.setdefault(row, []).append(found)
        print(json.dumps({"row": row, **found}), flush=True)
        return found

    def add(self, row: str, entries: list[dict[str, Any]]) -> None:
        """Rows that follow from measurements."""
        self.used[row] = entries
        for entry in entries:
            print(json.dumps({"row": row, **entry}), flush=True)

    def mnist(self) -> Path:
        """The folder of the four files."""
        fetch()
        return cache_folder()

    def child(self, row: str, *words: Any) -> dict[str, Any]:
        """What `one` of the row's module prints last, as JSON, in a fresh process."""
        command = [sys.executable, str(Path(__file__)), "--one", json.dumps([row, *words])]
        taken = spent(command, log=self.arguments.work / f"{row}.log")
        found: dict[str, Any] = json.loads(taken.output.splitlines()[-1])
        return found


def main() -> int:
    """Measure, print, save."""
    arguments = parse()
    if arguments.one:
        row, *words = arguments.one
        import_module(ROWS[row][0]).one(*words)
        return 0
    rows = arguments.rows.split(",")
    unknown = set(rows) - set(ROWS)
    if unknown:
        raise SystemExit(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    bench = Bench(arguments)
    for row in rows:
        bench.start(row)
        import_module(ROWS[row][0]).measure(bench)
        if arguments.save:
            save("pipeline", command(arguments), {"rows": rows_with("pipeline", bench.used)})
    return 0


def command(a: argparse.Namespace) -> str:
    """What was asked for."""
    text = f"scripts/bench pipeline --rows {a.rows} --pairs {a.pairs}"
    if "end-to-end" in a.rows.split(","):
        text += f" --versions {a.versions} --seeds {a.seeds} --sides {a.sides}"
        text += f" --epochs {a.epochs} --images {a.images}" if (a.epochs, a.images) != (5, 0) else ""
    return text


if __name__ == "__main__":
    sys.exit(main())
