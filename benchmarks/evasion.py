"""Attacks against the peers': quality on the same images, speed in interleaved pairs, peak memory, AutoAttack by seeds.

    scripts/bench evasion [--rows quality,pgd-speed,...] [--networks FOLDER] [--n 1000] [--images held-out|test] ...

Runs in an environment of its own (`--environment`, made where missing from requirements.lock and benchmarks/peers.txt).
Every finished measurement is kept under `--work` and not taken again for the same commit, images and settings. Networks
are those of `scripts/bench networks`. The default images are the last 6,000 training images, which nothing was trained
on; `--images test` is for the final run only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TEMPORARY = Path(tempfile.gettempdir())
ROWS = (
    "quality", "protocol", "pgd-speed", "fgsm-speed", "autoattack-speed", "autoattack-seeds",
    "autoattack-norms", "fast-seeds", "memory", "profile",
)  # fmt: skip
IN_PEERS = "SECURE_AI_BENCH_PEERS"  # set in the process that runs in the peers' environment


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--networks", type=Path, default=TEMPORARY / "secure-ai-networks")
    parser.add_argument(
        "--names",
        default="natural-seed0,pgd-seed0,fgsm-rs-seed0",
        help="quality, autoattack-norms",
    )
    parser.add_argument("--speed-network", default="pgd-seed0")
    parser.add_argument("--attacks", default="", help="all rows of suites or attacks: only these")
    parser.add_argument("--peers", default="", help="quality, pgd-speed, fgsm-speed: only these, e.g. torchattacks,art")
    parser.add_argument("--norms", default="", help="autoattack-norms: only these")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--quality-seeds", type=int, default=0, help="attack seeds; 0: as many as the attack needs")
    parser.add_argument("--images", choices=("held-out", "test"), default="held-out")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--slow-pairs", type=int, default=1, help="pairs of autoattack-speed; below 5 it is marked")
    parser.add_argument("--peer-settings", default="documented,ours", help="rows of speed: which of them")
    parser.add_argument("--training-recipe", default="fgsm-rs", help="autoattack-seeds, fast-seeds: or fgsm-rs-60000")
    parser.add_argument("--training-seeds", default="0,1,2,3,4")
    parser.add_argument("--attack-seeds", default="0,1,2,3,4")
    parser.add_argument("--precision", choices=("auto", "float32"), default="auto")
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--work", type=Path, default=TEMPORARY / "secure-ai-evasion")
    parser.add_argument(
        "--save", action=argparse.BooleanOptionalAction, default=True, help="write results/evasion.json"
    )
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "ATTACK", "NETWORK", "N"), help=argparse.SUPPRESS)
    return parser.parse_args()


def peers_python(folder: Path) -> Path:
    """The peers' Python."""
    from _environment import make_environment

    return make_environment(
        folder,
        ".secure-ai-peers",
        ("requirements.lock", "requirements-torch.txt", "benchmarks/peers.txt"),
        (
            ("--only-binary=:all:", "--require-hashes", "-r", str(ROOT / "requirements.lock")),
            ("--only-binary=:all:", "-c", str(ROOT / "requirements-torch.txt"), "torch"),
            ("--no-deps", "-r", str(ROOT / "benchmarks" / "peers.txt")),
            ("--no-deps", "--no-build-isolation", "-e", str(ROOT)),
        ),
    )


class Bench:
    """The run: images, targets, and the store of finished measurements."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from _kept import Kept
        from _package import configure, hold_out_last, images_to_float, labels_to_tensor, load_mnist, sample_n
        from _record import commit, machine
        from torch import __version__ as torch_version

        self.arguments = arguments
        self.compute = configure(arguments.precision)
        whole = load_mnist("test") if arguments.images == "test" else hold_out_last(load_mnist("train"), 6000)[1]
        self.dataset = sample_n(whole, arguments.n, 0) if arguments.n < len(whole) else whole
        self.x, self.y = images_to_float(self.dataset.images), labels_to_tensor(self.dataset.labels)
        self.commit, self.machine = commit(), f"{machine()}, torch {torch_version}"
        self.kept = Kept(arguments.work / "measurements.json")
        self.used: dict[str, list[dict[str, Any]]] = {}

    def target(self, name: str, **settings: Any) -> Any:
        """A network of `scripts/bench networks`, or any built-in network's file under its own name."""
        from _package import load_model, make_target
        from networks import RECIPES, arch_of

        arch = arch_of(name) if name.rpartition("-seed")[0] in RECIPES else None
        loaded = load_model(self.arguments.networks / f"{name}.safetensors", arch=arch)
        return make_target(loaded, input_shape=(1, 28, 28), num_classes=10, **settings)

    def correct(self, target: Any) -> tuple[Any, Any]:
        """The images that the network classifies correctly: what every attack is given."""
        from _duel import predicted

        right = predicted(target.network, self.x) == self.y
        return self.x[right].contiguous(), self.y[right]

    def measure(self, row: str, key: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A measurement, taken once, printed and kept at once."""
        facts = {"row": row, **key, "precision": self.arguments.precision, "threads": self.compute.threads}
        facts |= {"images": self.dataset.name, "commit": self.commit, "machine": self.machine}
        if "network" in key:
            facts["network_digest"] = self.target(str(key["network"])).digest[:12]
        kept_by = {**facts, "data": self.dataset.digest}
        found = self.kept.take(kept_by, lambda: facts | {"command": command(self.arguments)} | work())
        self.used.setdefault(row, []).append(found)
        print(json.dumps(found), flush=True)
        return found


def in_peers_environment(arguments: argparse.Namespace) -> int:
    """Everything after the re-start."""
    import _evasion_rows as rows

    if arguments.one:
        rows.one_side(Bench(arguments), *arguments.one)
        return 0
    bench = Bench(arguments)
    for row in arguments.rows.split(","):
        rows.ROWS[row](bench)
    if arguments.save:
        save_results(bench)
    return 0


def command(a: argparse.Namespace) -> str:
    """What was asked for, without the folders of this machine."""
    words = [f"scripts/bench evasion --rows {a.rows} --n {a.n} --images {a.images}"]
    rows = set(a.rows.split(","))
    if rows & {"quality", "autoattack-norms"}:
        words.append(f"--names {a.names}")
    chosen = (
        ("attacks", a.attacks),
        ("peers", a.peers),
        ("norms", a.norms),
        ("quality-seeds", a.quality_seeds),
    )
    words += [f"--{name} {value}" for name, value in chosen if value]
    if rows & {"pgd-speed", "fgsm-speed", "autoattack-speed", "memory", "profile"}:
        words.append(f"--speed-network {a.speed_network} --pairs {a.pairs} --slow-pairs {a.slow_pairs}")
        words.append(f"--peer-settings {a.peer_settings}")
    if a.precision != "auto":
        words.append(f"--precision {a.precision}")
    if "-seeds" in a.rows:
        words.append(
            f"--training-recipe {a.training_recipe} --training-seeds {a.training_seeds} --attack-seeds {a.attack_seeds}"
        )
    return " ".join(words)


IDENTITY = (
    "network", "attack", "peer", "side", "budget", "suite", "dtype", "pair", "peer_settings", "attack_seed",
)  # fmt: skip


def about(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What an entry of a row is about."""
    weights = str(entry.get("network_digest")) if "pair" in entry else ""  # timed pairs of another training stay
    where = [str(entry.get(field)) for field in ("machine", "threads")] if "ratios" in entry else []
    return (*(str(entry.get(field)) for field in IDENTITY), weights, *where)


def merged(before: Sequence[Mapping[str, Any]], fresh: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Entries of one row: a fresh one takes the place of the one about the same."""
    return list(({about(entry): entry for entry in before} | {about(entry): entry for entry in fresh}).values())


def replaced(before: Sequence[Mapping[str, Any]], fresh: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries of `before` that fresh ones take the place of: kept as well, so that no run is lost."""
    anew = {about(entry) for entry in fresh}
    return [entry for entry in before if about(entry) in anew and entry not in fresh]


def save_results(bench: Bench) -> None:
    """All entries of this run into results/evasion.json; what was not measured again stays as it is there."""
    from importlib import metadata

    from _peers import VERSIONS
    from _record import rows_with, save

    rows = rows_with("evasion", {})
    for row, entries in bench.used.items():
        rows["replaced"] = [*rows.get("replaced", []), *replaced(rows.get(row, []), entries)]
        rows[row] = merged(rows.get(row, []), entries)
    content = {"peers": {name: metadata.version(name) for name in VERSIONS}, "rows": rows}
    save("evasion", "scripts/bench evasion --images test", content)  # entries name their own commands


def main(words: Sequence[str]) -> int:
    """Re-start in the peers' environment, where everything is measured."""
    arguments = parse()
    unknown = set(arguments.rows.split(",")) - set(ROWS)
    if unknown:
        raise SystemExit(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if os.environ.get(IN_PEERS):
        return in_peers_environment(arguments)
    python = peers_python(arguments.environment)
    environment = {**os.environ, IN_PEERS: "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run([str(python), str(Path(__file__)), *words], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
