"""Pages about the two published reports: bounds, reproduction, every measurement, time and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import spread
from _pages import Result, source, table


def must_reach(result: Result) -> list[str]:
    """Bounds set before, means over seeds, the worst beside them."""
    rows = []
    for row in result["rows"]:
        seeds = ", ".join(f"{seed}: {value:.2f}" for seed, value in row["by_seed"].items())
        missed = [seed for seed, held in row["reached"].items() if not held]
        mean = "not measured" if row["mean"] is None else f"{row['mean']:.2f}"
        rows.append((row["figure"], row["bound"], mean, "yes" if row["mean_reached"] else "NO", seeds,
                     ", ".join(missed) or "none"))  # fmt: skip
    columns = ("figure", "bound", "mean of 0, 1, 2", "mean reaches it", "by training seed", "seeds that miss it")
    return [
        "# Bounds that were set before the measurement",
        "",
        "In percent or percentage points. A figure is the mean over the training seeds 0, 1 and 2, which were fixed "
        "before. Version P trains report 1's defended network on examples that were made once, for the baseline, as "
        "the "
        "report's figures suggest. Version L makes them again for the network in training, as its listing says. "
        "BadNets "
        "is a poisoning that works, for comparison. It is the second look at these test images "
        "([notes](../../benchmarks/notes.md)).",
        "",
        *source(result),
        *table(columns, rows),
    ]


def reproduction(result: Result) -> list[str]:
    """Every published figure, ours by its protocol, ours measured correctly, and why."""

    def number(entry: Mapping[str, Any] | None) -> str:
        return entry["text"] if entry else "-"

    lines = [
        "# The reproduction table",
        "",
        *source(result),
        f"Verdict of the run: {result['verdict']}",
        "",
        "*Same protocol*: the figure made as the report made it. *Measured correctly*: the same question by this "
        "tool's "
        "rules; another attack is named. One run, seed 42; [bounds](bounds.md) says how far seeds move these figures. "
        "The tolerances in the reasons are the fixed constants of that commit. Today those of report 1 are measured "
        "([tolerances](tolerances.md)) and those of report 2 fixed; a report says which.",
        "",
        "An interval covers these images and this one network. The column *holds*: `no` means that the published "
        "number "
        "does not mean what the report says, or was not found again; `not_comparable` that it is a time on the "
        "authors' "
        "machine. For claims in words: `supported`, `wrong` (contradicted) or `not_supported` (nothing found for it). "
        "Some rows compare printed figures with each other, or with what the reports' programs do, and not with a "
        "measurement; their reason says so.",
        "",
    ]
    for report in ("report-1", "report-2"):
        rows = [
            (
                row["published"]["text"],
                row["published"]["value_text"] or "-",
                number(row["same_protocol"]),
                number(row["correct"]),
                row["holds"] if row["published"]["value_text"] else row["status"],
                row["reason"],
            )
            for row in result["reproduction"]
            if row["report"] == report
        ]
        columns = ("claim", "published", "ours, same protocol", "ours, measured correctly", "holds", "why")
        lines += [f"## {report.replace('-', ' ').capitalize()}", "", *table(columns, rows)]
    return lines


def measurements(result: Result) -> list[str]:
    """Every rate with n, interval and trust."""
    rows = [
        (
            entry["id"],
            f"{100 * entry['value']['value']:.2f} %",
            f"{100 * entry['value']['ci_low']:.2f} to {100 * entry['value']['ci_high']:.2f}",
            entry["value"]["n"],
            _verdict(entry),
            entry["protocol"],
        )
        for entry in result["measurements"]
        if entry["value"]["value"] is not None
    ]
    columns = ("measurement", "rate", "95 % interval", "n", "verdict", "protocol")
    return [
        "# Every measurement of the reproduction run",
        "",
        "*Verdict*: of a rate under attack, and of every other one that is not `reliable`.",
        "",
        *source(result),
        *table(columns, rows),
    ]


def _verdict(entry: Mapping[str, Any]) -> str:
    word = str(entry["trust"]["verdict"])
    return word if entry["metric"] == "robust_accuracy" or word != "reliable" else ""


def main_job(result: Result) -> list[str]:
    """Seconds and memory."""
    rows = [
        (
            row["what"],
            f"{row['seconds']} s",
            f"<= {row['bound_seconds']} s",
            f"{row['peak_gib']} GiB" if "peak_gib" in row else "-",
            "yes" if row["seconds"] <= row["bound_seconds"] and row.get("peak_gib", 0) <= 1.5 else "NO",
            row["commit"],
            row["machine"],
        )
        for row in result["rows"]
    ]
    return [
        "# Time and memory",
        "",
        "Bounds are for 2 idle cores with bf16 matrix units; three times as long is allowed without. "
        "Peak memory is that of the largest process; its bound is 1.5 GiB.",
        "",
        *source(result),
        *table(("what", "time", "bound", "peak memory", "within", "commit", "machine"), rows),
        *(line for row in result["rows"] if "attack_seconds" in row for line in _where_it_goes(row)),
    ]


def _where_it_goes(row: Mapping[str, Any]) -> list[str]:
    attacks = ", ".join(f"{name} {s}" for name, s in sorted(row["attack_seconds"].items(), key=lambda part: -part[1]))
    bare = row.get("bare_passes_seconds")
    peer = f" The attacks' passes alone take the bare network {bare} s, in the same process." if bare else ""
    return [
        f"Where the small model's {row['seconds']} s go: attacks {attacks}; checks {row['probe_seconds']}; "
        f"start, preflight and report {row['other_seconds']}. Processor time: {row['processor_seconds']} s.{peer}",
        "",
    ]


def tolerances(result: Result) -> list[str]:
    """How far single runs of report 1's protocol lie apart."""
    return [
        "# How far two runs of report 1's protocol differ",
        "",
        *source(result),
        "20 runs, 5 training seeds in each of 4 stacks: this tool in bf16 and float32, TensorFlow with ART, PyTorch "
        "with Foolbox. P and L are the two versions of the defence. s^2 is the variance of a single run, between and "
        "within stacks, nu its degrees of freedom (Satterthwaite). In 95 % of cases two single runs of different "
        "stacks differ by less than t(0.975, nu) s sqrt(2); s of a loss is that of its logarithm, and the limit a "
        "factor. These are the tolerances of report 1's reproduction table. Command: `scripts/bench spread`.",
        "",
        *table(spread.COLUMNS, spread.rows(result["rows"]["end-to-end"])),
    ]
