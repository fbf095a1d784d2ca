"""Defences: training by each method, then the strongest attack on test images that neither training nor choices saw.

    scripts/bench defences [--rows pgd,trades,ibp-0.3] [--seeds 0] [--measure fast~1000,autoattack~1000] [--device cuda]
    scripts/bench defences --rows transform-bits,colour,art [--n 1000]
    scripts/bench defences --rows pgd --speed          steps a second on two threads of this machine's processor
    scripts/bench defences --merge WORK                rows that other processes left in WORK/rows
    scripts/bench defences --card RUN                  the defence card of a finished `secure-ai run --out RUN`

The issue's figures have three seeds, `fast~10000` and `autoattack~1000`; certificates have `fast~1000` and
`fast~500` (smoothing) beside them, which they do not depend on. Every network and every row is kept
under `--work`: a network that is there is not trained again. Choices (weights, methods' constants) were made on the
last 6,000 training images; the test images are read here only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from _defence_networks import small_cnn, strided
from _defence_others import art_row, colour_row, transform_row
from _defence_speed import speed
from _package import (
    TRANSFORMS,
    CertifyMethod,
    ModelSpec,
    Norm,
    column_title,
    derive_seed,
    results_digest,
    secure_ai,
    text_rows,
    trust_words,
    write_json,
)
from _record import machine, rows_with, save

BUILT_IN = "report1-cnn"
OWN: dict[str, Callable[[], torch.nn.Module]] = {"small_cnn": small_cnn, "strided": strided}
TEST_IMAGES = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """A network to train, and how it is measured.

    Attributes:
        eps: of the attack and of the certificate; training goes a little beyond.
        epochs: passes over 54,000 images; with the speed of this machine they give the minutes of two cores.
        arch: the built-in network of report 1, or a name of `OWN`.
        certify: method of the certificate; empty: attacked only.
    """

    method: str
    norm: Norm
    eps: float
    epochs: int
    arch: str = BUILT_IN
    options: tuple[tuple[str, Any], ...] = ()
    certify: CertifyMethod | Literal[""] = ""


ROWS: dict[str, Row] = {
    "pgd": Row("pgd", "linf", 0.3, 13),
    "trades": Row("trades", "linf", 0.3, 20),
    "mart": Row("mart", "linf", 0.3, 20),
    "pgd-awp": Row("pgd", "linf", 0.3, 13, options=(("awp", 0.005),)),
    "fast": Row("fast", "linf", 0.3, 14),
    "larger": Row("pgd", "linf", 0.3, 17, arch="small_cnn"),
    "ibp-0.1": Row("ibp", "linf", 0.1, 60, certify="ibp"),
    "ibp-0.3": Row("ibp", "linf", 0.3, 60, certify="ibp"),
    "crown-ibp-0.3": Row("crown-ibp", "linf", 0.3, 40, certify="crown-ibp"),
    "smoothing": Row("gaussian", "l2", 1.5, 40, arch="strided", certify="smoothing"),
}
OTHERS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    **{f"transform-{name}": partial(transform_row, name) for name in TRANSFORMS}, "colour": colour_row, "art": art_row,
}  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="pgd", help=", ".join([*ROWS, *OTHERS]))
    parser.add_argument("--seeds", default="0", help="of training")
    parser.add_argument("--epochs", type=int, help="default: the row's own; for a try")
    parser.add_argument("--train", default="mnist:train", help="for a try")
    parser.add_argument("--time-budget", type=float, help="seconds of training at most; fewer steps are written down")
    parser.add_argument("--measure", default="fast~1000", help="ATTACK~N,...: of a stratified random N test images")
    parser.add_argument("--n", type=int, default=1000, help="test images of the rows that are not trained here")
    parser.add_argument("--samples", type=int, default=10_000, help="smoothing: noisy samples an image (issue: 100000)")
    parser.add_argument("--network", type=Path, help="of transforms: a file of report 1's network")
    parser.add_argument("--precision", choices=("auto", "float32"), default="float32", help="of training")
    parser.add_argument("--batch-size", type=int, default=256, help="of attacks: most images a pass; changes no result")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "secure-ai-defences")
    parser.add_argument("--speed", action="store_true", help="only the speed of training on two threads")
    parser.add_argument("--merge", type=Path, help="only put the rows of this folder into results/defences.json")
    parser.add_argument(
        "--card", type=Path, help="only put the card of this finished run into results/defence_card.json"
    )
    parser.add_argument(
        "--commit", default="", help="with --merge and --card: of the code that measured, where it is another"
    )
    parser.add_argument("--save", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


def named(options: argparse.Namespace, row: Row, file: Path) -> ModelSpec:
    """The trained file as a user names it."""
    arch = row.arch if row.arch == BUILT_IN else f"{Path(__file__).with_name('_defence_networks.py')}:{row.arch}"
    return ModelSpec(model=str(file), arch=arch)


def trained(name: str, row: Row, seed: int, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Train, or take from `--work`: the file and what its training said."""
    out = options.work / f"{name}-seed{seed}.safetensors"
    facts = out.with_suffix(".json")
    if not facts.exists():
        made = secure_ai.hardened(
            _fresh(row, seed), options.train, norm=row.norm, eps=row.eps, method=row.method, out=out, seed=seed,
            epochs=options.epochs or row.epochs, time_budget=options.time_budget, device=options.device,
            precision=options.precision, progress=progress(f"{out.stem} training"), **dict(row.options),
        )  # fmt: skip
        weights = sum(parameter.numel() for parameter in made.network.parameters())
        facts.write_text(json.dumps(made.as_json() | {"parameters": weights}), encoding="utf-8")
    return out, json.loads(facts.read_text(encoding="utf-8"))


def _fresh(row: Row, seed: int) -> ModelSpec | torch.nn.Module:
    if row.arch == BUILT_IN:
        return ModelSpec(arch=BUILT_IN)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, row.arch))
        return OWN[row.arch]()


def trained_row(name: str, seed: int, options: argparse.Namespace) -> None:
    """Train and measure; the row is written again after each measurement, so that a stopped process leaves those."""
    row = ROWS[name]
    file, said = trained(name, row, seed, options)
    kept = ("steps", "epochs", "train_seconds", "compute", "held_out", "chosen_step", "parameters", "time_budget")
    found: dict[str, Any] = {"method": row.method, "arch": row.arch, "norm": row.norm, "eps": row.eps, "seed": seed}
    found |= {key: said[key] for key in kept} | {"row_epochs": row.epochs, "options": dict(row.options)}
    found |= {"rolled_back": said["checks"]["rolled_back"], "machine": machine(), "measured": {}}
    keep_row(options, f"{name}-seed{seed}", found)
    for asked in options.measure.split(","):
        attack, _, n = asked.partition("~")
        data = "mnist:test" if int(n) >= TEST_IMAGES else f"mnist:test~{n}"
        began = time.perf_counter()
        found["measured"][asked] = measured(row, named(options, row, file), data, attack, options) | {
            "data": data, "measure_seconds": round(time.perf_counter() - began, 1)
        }  # fmt: skip
        keep_row(options, f"{name}-seed{seed}", found)


def measured(row: Row, spec: ModelSpec, data: str, attack: str, options: argparse.Namespace) -> dict[str, Any]:
    """Attacked, or certified beside attacked."""
    names: tuple[str, ...] = ("clean_accuracy", "robust_accuracy", "trust")
    shown = progress(f"{Path(str(spec.model)).stem} {attack} on {data}")
    if row.certify:
        own: dict[str, Any] = {"samples": options.samples} if row.certify == "smoothing" else {"attack": attack}
        found = secure_ai.certify(
            spec, data, norm=row.norm, eps=row.eps, method=row.certify, device=options.device, progress=shown, **own
        ).as_json()
        names = ("method", "clean_accuracy", "certified_accuracy", "attacked_accuracy", "contradictions", "trust")
        names += ("samples", "sigma", "largest_radius") if row.certify == "smoothing" else ()
    else:
        found = secure_ai.attack(
            spec, data, norm=row.norm, eps=str(row.eps), attack=attack, precision="float32", device=options.device,
            batch_size=options.batch_size, keep_examples=False, progress=shown,
        ).as_json()  # fmt: skip
    trust = {"verdict": found["trust"]["verdict"], "checks": _not_passed(found["trust"]["checks"])}
    return {name: found[name] for name in names} | {"trust": trust}


def _not_passed(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [check for check in checks if check["outcome"] != "pass"]


def keep_row(options: argparse.Namespace, name: str, found: dict[str, Any]) -> None:
    """Write one row under `--work`, whole or not at all."""
    (options.work / "rows").mkdir(parents=True, exist_ok=True)
    write_json(options.work / "rows" / f"{name}.json", found)


def merge(work: Path) -> dict[str, Any]:
    """The rows of a folder by name."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted((work / "rows").glob("*.json"))}


def progress(text: str) -> Callable[[int, int], None]:
    """Says every 10 seconds, and at the end, how far something is."""
    began = last = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if done == total or now - last > 10:
            last = now
            print(f"{text}: {done} of {total}, {now - began:.0f} s", file=sys.stderr, flush=True)

    return show


def run(options: argparse.Namespace) -> None:
    """Every row that was asked for."""
    for name in options.rows.split(","):
        if name in OTHERS:
            for key, found in OTHERS[name](options).items():
                keep_row(options, key, found | {"machine": machine()})
        elif options.speed:
            keep_row(options, f"speed-{name}", speed(_fresh(ROWS[name], 0), ROWS[name]) | {"machine": machine()})
        else:
            for seed in map(int, options.seeds.split(",")):
                trained_row(name, seed, options)


def card(folder: Path, commit: str) -> dict[str, Any]:
    """The tables of a run's defence card as its report shows them, with the machine and versions of that run."""
    report = secure_ai.read_report(folder)
    run, words = report.run, trust_words(report)
    shown = [section for section in report.sections if section.id.startswith(("defences/", "confidence/"))]
    if not any(section.id == "defences/card" for section in shown):
        raise SystemExit(f"{folder}: expected a defence card, got none; --recipe standard or full makes one")
    if not commit and run.code.get("results") != results_digest():
        raise SystemExit(f"{folder}: measured by other code than this; name its commit with --commit")
    tables = [
        {
            "title": section.title,
            "intro": section.intro,
            "columns": [column_title(column) for column in section.columns],
            "rows": text_rows(section, words),
            "note": section.note,
        }
        for section in shown
    ]
    measured_by = {"commit": commit} if commit else {}
    about = {"run": run.command, "complete": run.complete, "machine": run.machine, "versions": run.versions}
    return {**measured_by, **about, "tables": tables}


def main() -> None:
    options = parse()
    if options.card is not None:
        save("defence_card", "scripts/bench defences --card RUN", card(options.card, options.commit))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    if options.merge is None:
        run(options)
    measured_by = {"commit": options.commit} if options.commit else {}
    fresh = {name: found | measured_by for name, found in merge(options.merge or options.work).items()}
    print(json.dumps({name: found.get("measured", found) for name, found in fresh.items()}, indent=1))
    if options.save:
        command = "scripts/bench defences " + " ".join(sys.argv[1:])
        save("defences", command.strip(), {"rows": rows_with("defences", fresh)})


if __name__ == "__main__":
    main()
