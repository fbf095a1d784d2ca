"""The reports' figures, measured anew for several training seeds, against the bounds set before.

    scripts/bench must_reach [--report-1 42,0,1,2] [--report-2 42,0,1,2] [--out FOLDER]

A claim is the mean over the seeds fixed beforehand, 0, 1 and 2, with the worst beside it; 42 is report 1's own and is
shown with them. Every run and figure is in the results file. A finished run in FOLDER/seed-N is reused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _package import run
from _record import save

Values = dict[str, float]
CLAIM_SEEDS = (0, 1, 2)


def at_least(bound: float) -> Callable[[float], bool]:
    return lambda value: value >= bound


def at_most(bound: float) -> Callable[[float], bool]:
    return lambda value: value <= bound


def between(low: float, high: float) -> Callable[[float], bool]:
    return lambda value: low <= value <= high


P, L = "report-1/defended-p", "report-1/defended-l"

# what -> (bound in words, the figure from the measured shares in percent, is it reached)
BOUNDS: dict[str, tuple[str, Callable[[Values], float], Callable[[float], bool]]] = {
    "report 1: clean accuracy": (">= 98.6", lambda v: v["report-1/baseline/clean"], at_least(98.6)),
    "baseline under FGSM 0.25": ("5 to 30", lambda v: v["report-1/baseline/fgsm"], between(5, 30)),
    "P on the baseline's examples": (">= 97", lambda v: v[f"{P}/transferred"], at_least(97)),
    "P under its own FGSM": ("<= 40", lambda v: v[f"{P}/fgsm"], at_most(40)),
    "P: points between the two": (">= 50", lambda v: v[f"{P}/transferred"] - v[f"{P}/fgsm"], at_least(50)),
    "L under its own FGSM": ("80 to 97", lambda v: v[f"{L}/fgsm"], between(80, 97)),
    "L: points from FGSM down to PGD-40": (">= 20", lambda v: v[f"{L}/fgsm"] - v[f"{L}/pgd"], at_least(20)),
    "poisoned: clean accuracy": (">= 98.5", lambda v: v["report-1/poisoned/clean"], at_least(98.5)),
    "poisoned: triggered sevens": (">= 98", lambda v: v["report-1/poisoned/sevens-triggered"], at_least(98)),
    "poisoned: clean-label backdoor success": ("<= 1", lambda v: v["report-1/poisoned/backdoor"], at_most(1)),
    "BadNets: backdoor success": (">= 99", lambda v: v["report-1/badnets/backdoor"], at_least(99)),
    "BadNets: points of clean accuracy lost": (
        "<= 0.3",
        lambda v: v["report-1/baseline/clean"] - v["report-1/badnets/clean"],
        at_most(0.3),
    ),
    "report 2: clean accuracy": (">= 98.6", lambda v: v["report-2/baseline/clean"], at_least(98.6)),
    "report 2, defended: points of clean accuracy lost": (
        "<= 3",
        lambda v: v["report-2/baseline/clean"] - v["report-2/defended/clean"],
        at_most(3),
    ),
    "report 2: triggered sevens sent to 1": ("reported", lambda v: v["report-2/poisoned/backdoor"], at_least(0)),
}


def measure(recipe: str, seed: int, folder: Path) -> dict[str, Any]:
    """All rates of one run; what is finished in the folder is reused."""
    print(f"{recipe}, seed {seed}", file=sys.stderr, flush=True)
    result = run(recipe, seed=seed, out=folder / f"seed-{seed}")
    return {entry.id: entry.value.as_json() for entry in result.report.measurements}


def main() -> int:
    """Exit 1 when the mean over the claim's seeds misses a bound, or one of them was not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report-1", default="42,0,1,2")
    parser.add_argument("--report-2", default="42,0,1,2")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "secure-ai-must-reach")
    arguments = parser.parse_args()
    first, second = ([int(seed) for seed in text.split(",")] for text in (arguments.report_1, arguments.report_2))
    seeds = sorted({*first, *second}, key=lambda seed: (seed != 42, seed))
    rates = {}
    for seed in seeds:
        recipe = "standard" if seed in first and seed in second else "report-1" if seed in first else "report-2"
        rates[seed] = measure(recipe, seed, arguments.out)
    shares = {
        seed: {name: 100 * rate["value"] for name, rate in values.items() if rate["value"] is not None}
        for seed, values in rates.items()
    }
    rows = []
    for name, (bound, figure, reached) in BOUNDS.items():
        chosen = second if name.startswith("report 2") else first
        by_seed = {str(seed): round(figure(shares[seed]), 2) for seed in chosen}
        held = {seed: reached(value) for seed, value in by_seed.items()}
        claim = [by_seed[str(seed)] for seed in CLAIM_SEEDS if seed in chosen]
        mean = round(sum(claim) / len(claim), 2) if len(claim) == len(CLAIM_SEEDS) else None
        mean_reached = mean is not None and reached(mean)
        rows.append(
            {"figure": name, "bound": bound, "mean": mean, "mean_reached": mean_reached}
            | {"by_seed": by_seed, "reached": held}
        )
        print(f"{'ok  ' if mean_reached else 'MISS'} {name}: {bound}; mean {mean}, {by_seed}")
    save(
        "must_reach",
        f"scripts/bench must_reach --report-1 {arguments.report_1} --report-2 {arguments.report_2}",
        {"rows": rows, "rates": rates},
    )
    return 0 if all(row["mean_reached"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
