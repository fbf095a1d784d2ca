"""Backdoor scan: false alarms on clean networks, detection by kind of trigger, beside the published rules.

    python benchmarks/backdoors.py run --work build/backdoors --device cuda      # control networks, then the others
    python benchmarks/backdoors.py run --work build/backdoors --clean 4 --planted patch=2 blend=2 --fleet 20
    python benchmarks/backdoors.py commit --work build/backdoors                 # -> known_fleets.json, results/
    python benchmarks/backdoors.py files secure_ai_outputs/models/baseline_cnn.safetensors ...

Networks are trained and measured in groups; `--work` keeps the numbers of each group: a run that was stopped goes on.
The control networks are finished before the first network is scanned, and their numbers are then fixed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from _backdoor_art import art_filters
from _backdoor_networks import ARCH
from _backdoor_repairs import filters, removal
from _backdoor_steps import (
    FIRST_SEED,
    HELD_OUT,
    KEPT_EACH,
    SEARCH,
    OutOfTimeError,
    Setting,
    both_devices,
    evaluated,
    fleet,
    saved,
    setting,
    strip_again,
)
from _backdoor_table import anomaly_index, margin_p, summary
from _package import (
    KNOWN,
    P_SUSPICIOUS,
    Fleet,
    Member,
    calibration,
    choose_device,
    device_name,
    exact_kernels,
    known_fleet,
    load_data,
    measuring_settings,
    random_order,
    rate,
    read_file,
    scan_target,
    trained_target,
    write_json,
)
from _record import ROOT, save
from _record import commit as measured_commit

KNOWN_FILE = ROOT / "src" / "secure_ai" / "blue" / "backdoors" / KNOWN
LARGEST = 54_000  # training images of a control network
MAIN = ("patch", "blend", "clean-label", "source-specific")
OTHERS = ("checkerboard", "pixel", "frequency", "warp", "adaptive", "all-to-all")
FULL = {"clean": 150, **dict.fromkeys(MAIN, 20), **dict.fromkeys(OTHERS, 5)}
SECOND, SECOND_COUNT = "report2-cnn", 40
STEPS = ("fleet", "networks", "second-fleet", "filters", "devices", "removal", "strip", "art")
PROCESSES = 6  # removals side by side
COMMIT = "python benchmarks/backdoors.py commit --work build/backdoors"


def run(own: Setting, wanted: dict[str, int], count: int, steps: list[str]) -> None:
    """The steps that are asked for, in their order, until the time is over."""
    began = time.monotonic()
    path = own.work / "about.json"
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"seconds": {}}
    about |= {
        "device": device_name(own.device),
        "torch": torch.__version__,
        "wanted": wanted,
        "fleet": count,
        "largest": own.largest,
        "commands": about.get("commands", {}) | {step: command_of(own, wanted, count, step) for step in steps},
        "commits": sorted({*about.get("commits", ()), measured_commit()}),
        "settings": measuring_settings(),
        "measured_on": {"data": own.held_out.name, "digest": own.held_out.digest, "n": len(own.held_out)},
    }
    try:
        for step in steps:
            start = time.monotonic()
            with exact_kernels(own.device):
                _step(own, step, wanted, count)
            about["seconds"][step] = round(time.monotonic() - start, 1) + about["seconds"].get(step, 0)
            write_json(path, about)
    except OutOfTimeError:
        own.say("out of time: the same command goes on")
    own.say(f"{time.monotonic() - began:.0f} s")


def _step(own: Setting, step: str, wanted: dict[str, int], count: int) -> None:
    if step == "fleet":
        fleet(own, ARCH, count)
    elif step == "devices":
        both_devices(own, 3)
    elif step == "second-fleet":
        fewer = replace(own, group=max(1, own.group // 4), part=max(1, own.part // 4))  # its activations are larger
        fleet(fewer, SECOND, SECOND_COUNT)
    elif step == "filters":
        filters(own)
    elif step == "strip":
        strip_again(own)
    elif step == "art":
        art_filters(own)
    else:
        while len(members := saved(own.work / f"fleet-{ARCH}")) < count:  # another process makes the others
            own.check()
            time.sleep(5)
        clean = as_fleet(members)
        if step == "networks":
            evaluated(own, wanted, clean)
        else:
            removal(own, clean, 1 if own.device.type == "cpu" else PROCESSES)


def as_fleet(members: list[dict[str, Any]]) -> Fleet:
    """Control networks as a scan takes them."""
    return Fleet(
        members=tuple(Member(one["index"], one["accuracy"], one["values"]) for one in members),
        source=f"{len(members)} control networks", training_images=LARGEST, asked=len(members),
    )  # fmt: skip


def command_of(own: Setting, wanted: dict[str, int], count: int, step: str) -> str:
    """What makes the numbers of a step; the last that was run."""
    planted = " ".join(f"{kind}={n}" for kind, n in wanted.items() if kind != "clean")
    return (
        f"python benchmarks/backdoors.py run --work build/backdoors --device {own.device.type} --largest {own.largest} "
        f"--fleet {count} --clean {wanted['clean']} --planted {planted} --each {own.each} --steps {step}"
    )


def commit(work: Path) -> None:
    """The control networks' numbers into the package, the rows and their table into results/."""
    about = json.loads((work / "about.json").read_text(encoding="utf-8"))
    rows = sorted(saved(work / "rows"), key=lambda row: (list(FULL).index(row["kind"]), row["id"]))
    table, clean = summary(rows), as_fleet(saved(work / f"fleet-{ARCH}")).comparable()
    known: dict[str, Any] = {}
    for arch in (ARCH, SECOND):
        members = sorted(saved(work / f"fleet-{arch}"), key=lambda one: int(one["index"]))
        if members:
            known[arch] = {
                "data": "mnist",
                "command": about["commands"]["fleet" if arch == ARCH else "second-fleet"],
                "settings": about["settings"],  # of the code that measured, which need not be this
                "seed": 0,
                "measured_on": about["measured_on"],
                "training_images": about["largest"] // 2,  # the least that one of them was trained on
                "members": members,
            }
    known[ARCH]["power"] = {kind: one["working"] for kind, one in table.items() if "working" in one}
    KNOWN_FILE.write_text(json.dumps(known) + "\n", encoding="utf-8")
    content = {
        "commit": ", ".join(about["commits"]),
        "protocol": f"{ARCH}; MNIST's first 54,000 training images, of which networks were trained on 24,000 for 3 "
        f"epochs or on all for 5; scanned with the last {HELD_OUT}; seeds from {FIRST_SEED}; control networks on "
        f"{about['largest'] // 2} to {about['largest']} images for 2 to 5 epochs",
        "measured": about,
        "summary": table,
        "devices": saved(work / "devices"),
        "filters": sorted(saved(work / "filters"), key=lambda one: (list(FULL).index(one["kind"]), -one["dose"])),
        "art": saved(work / "art"),
        "removal": saved(work / "removal"),
        "rows": rows,
        "pair_scores": {
            "first look": by_pair_scores(saved(work / "first"), clean),
            "networks above": by_pair_scores(rows, clean),
        },
    }
    save("backdoors", "; ".join([*about["commands"].values(), COMMIT]), content)


def by_pair_scores(rows: list[dict[str, Any]], clean: Fleet) -> dict[str, Any]:
    """Alarms (p <= 0.05) by kind of the same measured values: pairs compared as they are, and as a scan does today."""
    found: dict[str, Any] = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        values = [
            {name: np.array(row) for name, row in one["scan"]["values"].items()} for one in rows if one["kind"] == kind
        ]
        found[kind] = {}
        for name, sweeps in (("as they are", 0), ("without class effects", calibration.SWEEPS)):
            with patch.object(calibration, "SWEEPS", sweeps):
                ps = [calibration.calibrate(one, clean.values(sorted(one)), 10).p for one in values]
            found[kind][name] = rate(sum(p <= P_SUSPICIOUS for p in ps), len(ps)).as_json()
    return found


def scan_files(paths: list[Path], command: str) -> None:
    """Networks of a run of `secure-ai run`, scanned as they are: rows beside those of the benchmark's own networks."""
    held_out = load_data("mnist:train").select(np.arange(54_000, 60_000), "the last")
    found = {}
    for path in paths:
        content = read_file(path, max_bytes=10_000_000).content
        arch = ARCH if len(content) < 2_000_000 else SECOND
        target = trained_target(content, arch, path.stem)
        clean = known_fleet(arch, target.transform, held_out)
        order = random_order(len(held_out), "benchmark", path.stem)
        search, rest = (held_out.select(part, "random") for part in (order[:SEARCH], order[SEARCH : SEARCH + 2_000]))
        scan = scan_target(target, search, rest, clean, seed=0, checks=())
        found[path.stem] = {
            "digest": target.digest,
            "scan": scan.as_json() | {"fleet": None},
            "neural_cleanse_index": round(anomaly_index(scan.values["mask"]), 3),
            "mm_bd_p": round(margin_p(scan.values["margin"]), 5),
        }
        reasons = "; ".join(scan.reasons)
        print(path.stem, scan.verdict.value, scan.suspected, reasons, f"{scan.seconds:.1f} s", flush=True)
        save("backdoors_reports", command, {"networks": found})


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--work", type=Path, required=True)
    runs.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    runs.add_argument("--seconds", type=float, default=float("inf"))
    runs.add_argument("--group", type=int, default=64, help="networks trained together; 1 on a CPU")
    runs.add_argument("--part", type=int, default=32, help="networks measured together")
    runs.add_argument("--fleet", type=int, default=200)
    runs.add_argument("--clean", type=int, default=FULL["clean"])
    runs.add_argument("--planted", nargs="*", default=[f"{kind}={n}" for kind, n in FULL.items() if kind != "clean"])
    runs.add_argument("--each", type=int, default=KEPT_EACH, help="of each kind, that are filtered and repaired")
    runs.add_argument("--largest", type=int, default=LARGEST, help="training images of a network, at most")
    runs.add_argument("--share", default="0/1", help="K/N: this process does every N-th network from the K-th on")
    runs.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    commands.add_parser("commit").add_argument("--work", type=Path, required=True)
    commands.add_parser("files").add_argument("paths", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "files":
        names = " ".join(f"secure_ai_outputs/models/{path.name}" for path in options.paths)
        scan_files(options.paths, f"python benchmarks/backdoors.py files {names}")
    elif options.command == "commit":
        commit(options.work)
    else:
        planted = {kind: int(count) for kind, _, count in (text.partition("=") for text in options.planted)}
        first, _, every = options.share.partition("/")
        own = setting(
            choose_device(options.device), options.work, group=options.group, part=options.part,
            seconds=options.seconds, largest=options.largest, each=options.each, share=(int(first), int(every)),
        )  # fmt: skip
        run(own, {"clean": options.clean, **planted}, options.fleet, options.steps)


if __name__ == "__main__":
    main()
