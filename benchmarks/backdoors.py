"""Backdoor scan: false alarms on clean networks, detection by kind of trigger, beside the published rules.

    python benchmarks/backdoors.py fleet --count 60        # control networks -> the package's known_fleets.json
    python benchmarks/backdoors.py files secure_ai_outputs/models/baseline_cnn.safetensors ...
    python benchmarks/backdoors.py measure --clean 12 --planted patch=4 blend=4
    python benchmarks/backdoors.py measure --full          # 150 clean, 20 of each main kind, 5 of each other: hours

Networks are kept in --work, rows in results/backdoors.json after each network: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _backdoor_networks import ARCH, EPOCHS, IMAGES, Drawn, drawn, network_of, success_of
from _package import (
    KNOWN,
    LARGEST,
    Dataset,
    Fleet,
    ScanVerdict,
    build_network,
    configure,
    known_fleet,
    load_data,
    measuring_settings,
    random_order,
    rate,
    read_file,
    scan_target,
    trained_fleet,
    trained_target,
)
from _record import RESULTS, ROOT, save

KNOWN_FILE = ROOT / "src" / "secure_ai" / "blue" / "backdoors" / KNOWN
HELD_OUT = 6_000  # the last training images: nothing here opens the test images
SEARCH = 200
FIRST_SEED = 1_000  # of evaluation
WORKS = 0.95  # planted success from which a backdoor counts as one that works
MAIN, OTHERS = ("patch", "blend", "clean-label", "source-specific"), ("checkerboard", "pixel", "frequency", "warp",
                                                                      "all-to-all")  # fmt: skip
FULL = {"clean": 150, **dict.fromkeys(MAIN, 20), **dict.fromkeys(OTHERS, 5)}


def data() -> tuple[Dataset, Dataset]:
    """MNIST's training images: those to train on, and those held out."""
    whole = load_data("mnist:train")
    positions = np.arange(len(whole))
    return whole.select(positions[:-HELD_OUT], "all but the last"), whole.select(positions[-HELD_OUT:], "the last")


def make_fleet(count: int, images: int) -> None:
    """Train and measure the control networks and commit their numbers."""
    compute = configure("auto")
    pool, held_out = data()
    search = held_out.select(random_order(len(held_out), 0, "scan-split")[:SEARCH], "to search on")
    began = time.monotonic()

    def progress(done: int, total: int) -> None:
        print(f"{done} of {total}, {time.monotonic() - began:.0f} s", flush=True)

    fleet = trained_fleet(
        lambda draws: build_network(ARCH, generator=draws), ARCH, pool, search, classes=10, count=count, seed=0,
        dtype=compute.training_dtype, progress=progress, largest=images,
    )  # fmt: skip
    known = json.loads(KNOWN_FILE.read_text(encoding="utf-8")) if KNOWN_FILE.exists() else {}
    known[ARCH] = {
        "data": "mnist",
        "command": f"python benchmarks/backdoors.py fleet --count {count} --images {images}",
        "settings": measuring_settings(),
        "training_images": images,
        "members": [asdict(member) for member in fleet.members],
    }
    KNOWN_FILE.write_text(json.dumps(known) + "\n", encoding="utf-8")
    print(f"{len(fleet.members)} control networks, median accuracy {100 * fleet.accuracy:.2f} %")


def anomaly_index(sizes: np.ndarray) -> float:
    """Neural Cleanse's published rule (S&P 2019, section IV-B): above 2 is backdoored; only small sizes count."""
    deviation = 1.4826 * float(np.median(np.abs(sizes - np.median(sizes))))
    return float((np.median(sizes) - sizes.min()) / max(deviation, 1e-9))


def margin_p(margins: np.ndarray) -> float:
    """MM-BD's published rule (2205.06900, section 4.2): a gamma fitted to all but the largest; below 0.05 is one."""
    from scipy.stats import gamma

    others = np.sort(margins)[:-1]
    shape, location, scale = gamma.fit(others, floc=0)
    return float(1 - gamma.cdf(margins.max(), shape, location, scale) ** len(margins))


def row(what: Drawn, pool: Dataset, held_out: Dataset, fleet: Fleet, work: Path, dtype: torch.dtype) -> dict[str, Any]:
    """One network trained and scanned; the scan sees neither trigger nor target."""
    target = network_of(what, pool, work, dtype)
    order = random_order(len(held_out), "benchmark", what.id)
    search, rest = (held_out.select(part, "random") for part in (order[:SEARCH], order[SEARCH : SEARCH + 2_000]))
    scan = scan_target(target, search, rest, fleet, seed=what.seed)
    label = scan.calibrated.label if scan.calibrated else None
    return {
        "id": what.id,
        "kind": what.kind,
        "recipe": what.recipe,
        "trigger": what.trigger.text if what.trigger else "",
        "target_label": what.target_label,
        "source_label": what.source_label,
        "planted_success": success_of(what, target, held_out),
        "scan": scan.as_json() | {"fleet": None},
        "right_label": what.trigger is not None and label == what.target_label,
        "neural_cleanse_index": round(anomaly_index(scan.values["mask"]), 3),
        "mm_bd_p": round(margin_p(scan.values["margin"]), 5),
    }


def scan_files(paths: list[Path], command: str) -> None:
    """Networks of a run of `secure-ai run`, scanned as they are: rows beside those of the benchmark's own networks."""
    configure("auto")
    _, held_out = data()
    fleet = known_fleet(ARCH, "mnist:train")
    found = {}
    for path in paths:
        target = trained_target(read_file(path, max_bytes=10_000_000).content, ARCH, path.stem)
        order = random_order(len(held_out), "benchmark", path.stem)
        search, rest = (held_out.select(part, "random") for part in (order[:SEARCH], order[SEARCH : SEARCH + 2_000]))
        scan = scan_target(target, search, rest, fleet, seed=0)
        found[path.stem] = {
            "digest": target.digest,
            "scan": scan.as_json() | {"fleet": None},
            "neural_cleanse_index": round(anomaly_index(scan.values["mask"]), 3),
            "mm_bd_p": round(margin_p(scan.values["margin"]), 5),
        }
        reasons = "; ".join(scan.reasons)
        label = scan.calibrated.label if scan.calibrated else None
        print(path.stem, scan.verdict.value, "class", label, reasons, f"{scan.seconds:.1f} s", flush=True)
        save("backdoors_report_1", command, {"fleet": len(fleet.members) if fleet else 0, "networks": found})


def works(entry: dict[str, Any]) -> bool:
    """Whether there is a backdoor to find."""
    return entry["planted_success"] is not None and (entry["planted_success"]["value"] or 0) >= WORKS


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Alarms on clean networks by each rule, and detection by kind: all, and those whose backdoor works."""
    rules: dict[str, Callable[[dict[str, Any]], bool]] = {
        "backdoored": lambda r: r["scan"]["verdict"] == ScanVerdict.BACKDOORED,
        "suspicious or backdoored": lambda r: r["scan"]["verdict"] in (ScanVerdict.BACKDOORED, ScanVerdict.SUSPICIOUS),
        "Neural Cleanse's published rule": lambda r: r["neural_cleanse_index"] > 2,
        "MM-BD's published rule": lambda r: r["mm_bd_p"] < 0.05,
    }
    found: dict[str, Any] = {}
    for kind in dict.fromkeys(r["kind"] for r in rows):
        own = [r for r in rows if r["kind"] == kind]
        groups = {"all": own} if kind == "clean" else {"all": own, "working": [r for r in own if works(r)]}
        found[kind] = {
            name: {rule: rate(sum(map(test, group)), len(group)).as_json() for rule, test in rules.items()}
            for name, group in groups.items()
            if group
        }
        if kind != "clean":
            alarms = [r for r in own if rules["suspicious or backdoored"](r)]
            found[kind]["right label among those found"] = [sum(r["right_label"] for r in alarms), len(alarms)]
    return found


def measure(wanted: dict[str, int], work: Path, command: str) -> None:
    """Every network that is wanted and has no row yet; then the table."""
    compute = configure("auto")
    pool, held_out = data()
    fleet = known_fleet(ARCH, "mnist:train")
    if fleet is None:
        raise SystemExit("no committed fleet for these settings: run `fleet` first")
    path = RESULTS / "backdoors.json"
    rows = json.loads(path.read_text(encoding="utf-8")).get("rows", []) if path.exists() else []
    work.mkdir(parents=True, exist_ok=True)
    known = {entry["id"] for entry in rows}
    for number in range(max(wanted.values())):  # one of each kind in turn: a run cut short has some of each
        for kind, count in wanted.items():
            what = drawn(kind, FIRST_SEED + number)
            if number >= count or what.id in known:
                continue
            rows.append(row(what, pool, held_out, fleet, work, compute.training_dtype))
            scan = rows[-1]["scan"]
            print(what.id, scan["verdict"], f"p {scan['p']:.3f}", scan["detector"], rows[-1]["planted_success"] and
                  rows[-1]["planted_success"]["value"], f"{scan['seconds']} s", flush=True)  # fmt: skip
            save("backdoors", command, _content(rows, fleet))
    save("backdoors", command, _content(rows, fleet))


def _content(rows: list[dict[str, Any]], fleet: Fleet) -> dict[str, Any]:
    seconds = sorted(entry["scan"]["seconds"] for entry in rows)
    return {
        "protocol": f"{ARCH}, {IMAGES} random of MNIST's first 54,000 training images, {EPOCHS} epochs; scanned "
        f"with the last {HELD_OUT} of them; seeds from {FIRST_SEED}; {len(fleet.members)} control networks",
        "not_run": f"the full protocol: {FULL}",
        "summary": summary(rows),
        "median_scan_seconds": seconds[math.floor(len(seconds) / 2)] if seconds else None,
        "rows": rows,
    }


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fleet = commands.add_parser("fleet")
    fleet.add_argument("--count", type=int, default=40)
    fleet.add_argument("--images", type=int, default=LARGEST)
    measured = commands.add_parser("measure")
    measured.add_argument("--clean", type=int, default=4)
    measured.add_argument("--planted", nargs="*", default=["patch=2", "blend=2"])
    measured.add_argument("--full", action="store_true")
    measured.add_argument("--work", type=Path, default=ROOT / "build" / "backdoors")
    files = commands.add_parser("files")
    files.add_argument("paths", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "files":
        scan_files(options.paths, "python benchmarks/backdoors.py files secure_ai_outputs/models/*_cnn.safetensors")
        return
    if options.command == "fleet":
        make_fleet(options.count, options.images)
        return
    planted = {kind: int(count) for kind, _, count in (text.partition("=") for text in options.planted)}
    wanted = FULL if options.full else {"clean": options.clean, **planted}
    words = "--full" if options.full else f"--clean {options.clean} --planted {' '.join(options.planted)}"
    measure(wanted, options.work, f"python benchmarks/backdoors.py measure {words}")


if __name__ == "__main__":
    main()
