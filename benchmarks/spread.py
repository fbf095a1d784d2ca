"""How far single runs of report 1's protocol lie apart: the tolerances of the reproduction table.

    scripts/bench spread

Reads the end-to-end rows of benchmarks/results/pipeline.json, 5 training seeds in each of 4 stacks, and prints one
line a tolerance: the figures that it serves, their standard deviations, and the largest limit. The rule stands in
`secure_ai.runs.reproduction.tolerances`, whose constants a test compares with these.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, variance
from typing import Any

from _record import RESULTS
from scipy.stats import t

CONFIDENCE = 0.95
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure of report 1's protocol: a share, a loss, or the difference of two shares of one run.

    Attributes:
        less: what is subtracted.
    """

    version: str
    name: str
    loss: bool = False
    less: str = ""

    def value(self, run: Run) -> float:
        """Of one run; of a loss its logarithm."""
        if self.loss:
            return math.log(run["losses"][self.name])
        shares = {name: share["value"] for name, share in run["shares"].items()}
        return float(shares[self.name] - (shares[self.less] if self.less else 0.0))


FIGURES: dict[str, tuple[Figure, ...]] = {
    "CLEAN": (Figure("P", "clean"), Figure("P", "defended clean"), Figure("P", "poisoned clean")),
    "ONE_CLASS": (Figure("P", "poisoned sevens"), Figure("P", "poisoned sevens patched")),
    "FGSM_UNDEFENDED": (Figure("P", "fgsm"),),
    "TRANSFERRED": (Figure("P", "defended fgsm"),),
    "FGSM_DEFENDED": (Figure("L", "defended fgsm"),),
    "CLEAN_LOSS": (
        Figure("P", "clean", loss=True),
        Figure("P", "defended clean", loss=True),
        Figure("P", "poisoned clean", loss=True),
    ),
    "ATTACKED_LOSS": (Figure("P", "fgsm", loss=True), Figure("P", "defended fgsm", loss=True)),
    "DIFFERENCE": (Figure("P", "clean", less="defended clean"), Figure("P", "clean", less="poisoned clean")),
    "DIFFERENCE_ATTACKED": (Figure("P", "clean", less="fgsm"), Figure("P", "defended fgsm", less="fgsm")),
    "GAP": (Figure("P", "defended clean", less="defended fgsm"),),
}


@dataclass(frozen=True)
class Spread:
    """The variance of a single run, with its degrees of freedom (Satterthwaite): runs of one stack are alike."""

    variance: float
    freedom: float

    @property
    def limit(self) -> float:
        """By how much two single runs of different stacks differ at most, in 95 % of cases; of logarithms too."""
        if self.variance == 0:
            return 0.0
        return float(t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * math.sqrt(2 * self.variance)


def spread(groups: Sequence[Sequence[float]]) -> Spread:
    """Of equally many runs in every stack: variances between and within stacks, one-way random effects."""
    size = len(groups[0])
    between = variance([mean(group) for group in groups])  # an estimate of that of stacks, plus 1/size of the other
    within = (1 - 1 / size) * mean([variance(group) for group in groups])
    total = between + within
    weight = between**2 / (len(groups) - 1) + within**2 / (len(groups) * (size - 1))
    return Spread(total, total**2 / weight if weight else math.inf)


def by_stack(runs: Sequence[Run], figure: Figure) -> list[list[float]]:
    """The figure's value in every run of its version, by stack."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if run["version"] == figure.version:
            found.setdefault(run["side"], []).append(figure.value(run))
    return list(found.values())


def tolerances(runs: Sequence[Run]) -> dict[str, tuple[int, float, float]]:
    """Runs, absolute and factor of every tolerance."""
    found = {}
    for name, figures in FIGURES.items():
        values = [by_stack(runs, figure) for figure in figures]
        largest = max(spread(groups).limit for groups in values)
        loss = figures[0].loss
        found[name] = (sum(map(len, values[0])), 0.0 if loss else largest, math.exp(largest) if loss else 1.0)
    return found


def recorded() -> list[Run]:
    """The end-to-end rows of whole runs."""
    rows = json.loads((RESULTS / "pipeline.json").read_text(encoding="utf-8"))["rows"]["end-to-end"]
    return [row for row in rows if row["epochs"] == 5 and row["images"] == 0]


COLUMNS = ("tolerance", "figure: standard deviation (degrees of freedom)", "runs", "two runs differ by")


def rows(runs: Sequence[Run]) -> list[tuple[str, str, int, str]]:
    """The table, by `COLUMNS`."""
    table = []
    for name, (count, absolute, factor) in tolerances(runs).items():
        shown = "; ".join(
            f"{figure.version} {figure.name}{', log of loss' if figure.loss else ''}"
            f"{f' less {figure.less}' if figure.less else ''}: {math.sqrt(found.variance):.5f} ({found.freedom:.1f})"
            for figure, found in ((figure, spread(by_stack(runs, figure))) for figure in FIGURES[name])
        )
        what = f"a factor of {factor:.3f}" if FIGURES[name][0].loss else f"{100 * absolute:.3f} points"
        table.append((name.lower().replace("_", " "), shown, count, what))
    return table


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for row in (COLUMNS, *rows(recorded())):
        print(*row, sep=" | ")


if __name__ == "__main__":
    main()
