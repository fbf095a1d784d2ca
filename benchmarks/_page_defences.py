"""The page of defences: what each training and each certificate kept, beside what was asked for."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from _package import Rate, frontier_png
from _pages import Result, cell_text, source, table

Row = Mapping[str, Any]
OF_SMOOTHED = "PGD on 32 noisy copies"  # whatever the measurement is called
CLEAN, ROBUST, CERTIFIED = "clean_accuracy", "robust_accuracy", "certified_accuracy"
AUTOATTACK, FAST = "autoattack~1000", "fast~1000"
WHOLE = 0.99  # of the epochs planned: each leaves out its last, incomplete batch
FRONTIER, FRONTIER_EPS = "../images/defences.png", 0.3

AIMS: tuple[tuple[str, str, str, str, float], ...] = (
    ("pgd", "AutoAttack, mean of the seeds", ROBUST, AUTOATTACK, 90.0),
    ("pgd", "AutoAttack, the worst seed", ROBUST, AUTOATTACK, 89.3),
    ("pgd", "clean, mean of the seeds", CLEAN, AUTOATTACK, 98.5),
    ("larger", "AutoAttack", ROBUST, AUTOATTACK, 91.5),
    ("ibp-0.1", "certified at 0.1", CERTIFIED, FAST, 96.0),
    ("ibp-0.3", "certified at 0.3", CERTIFIED, FAST, 88.0),
    ("ibp-0.3", "clean", CLEAN, FAST, 97.5),
    ("smoothing", "certified at L2 radius 1.5", CERTIFIED, "fast~500", 65.0),
)
"""Row, what, which rate, of which measurement, and the percentage that was asked for before anything was measured.

A certificate does not depend on the attack that is shown beside it.
"""


def defences(result: Result) -> list[str]:
    """Everything that was measured; what was asked for and not measured says so."""
    rows: Mapping[str, Row] = result["rows"]
    trained = {name: row for name, row in rows.items() if "measured" in row}
    return [
        "# Defences",
        "",
        "The networks of the first tables were trained on the first 54,000 training images of MNIST. The last 6,000 "
        "are held out, and the first 1,000 of those (256 for `fast`) chose the weights. No test image decided "
        "anything. The colour network and the one behind the transformations were trained on other images, named "
        "there. In percent, with 95 % intervals over the images. *Certified* is a lower bound "
        "of what any attack leaves, *attacked* an upper bound. A figure whose verdict is not `reliable` is no claim.",
        "",
        *source(result),
        "## Asked for",
        "",
        *table(("row", "what", "asked", "found", "reached"), [_aim(trained, *aim) for aim in AIMS]),
        "## Trained networks",
        "",
        *table(
            ("row", "parameters", "trained for", "on", "images", "attack", "clean", "attacked", "certified", "verdict"),
            [line for name, row in trained.items() for line in _lines(name, row)],
        ),
        *_replaced(trained),
        *_pictured(rows),
        *_colour(rows),
        *_minutes(rows),
        *_transforms(rows),
    ]


def card(result: Result) -> list[str]:
    """The defence card of one run, as its report has it."""
    cut = "" if result["complete"] else " The run was stopped before its end."
    lines = ["## The defence card of a run", "", f"Measured by `{result['run']}`.{cut}", "", *source(result)]
    for one in result["tables"]:
        lines += [f"### {one['title']}", "", one["intro"], "", *table(one["columns"], one["rows"])]
        lines += [one["note"], ""] if one["note"] else []
    return lines


def _seeds(rows: Mapping[str, Row], name: str) -> Iterable[Row]:
    return (row for key, row in rows.items() if key.rpartition("-seed")[0] == name)


def _aim(rows: Mapping[str, Row], name: str, what: str, rate: str, measurement: str, asked: float) -> tuple[str, ...]:
    measured = [row["measured"] for row in _seeds(rows, name)]
    kept = [one[measurement] for one in measured if measurement in one]
    found = [100 * one[rate]["value"] for one in kept]
    if not found:
        return name, what, f">= {asked:g}", "not measured", "not measured"
    value = min(found) if "worst" in what else statistics.fmean(found)
    seeds = "1 seed" if len(found) == 1 else f"{len(found)} seeds, {min(found):.1f} to {max(found):.1f}"
    reached = "NO" if value < asked else "yes" if all(_holds(one, rate) for one in kept) else "not to be trusted"
    return name, what, f">= {asked:g}", f"{value:.1f} ({seeds})", reached


def _holds(found: Mapping[str, Any], rate: str) -> bool:
    """A certificate holds unless an attack contradicts it, however weak that was."""
    return bool(found["contradictions"] == 0 if rate == CERTIFIED else found["trust"]["verdict"] == "reliable")


def _lines(name: str, row: Row) -> Iterable[tuple[object, ...]]:
    compute = row["compute"]
    spent = _spent(row)
    where = compute["device"] if compute["device"] != "cpu" else f"{compute['threads']} threads of a CPU"
    where += f", {compute['training_dtype']}"
    for asked, found in row["measured"].items():
        attack, _, n = asked.partition("~")
        attacked = found.get(ROBUST) or found.get("attacked_accuracy")
        certified = found.get(CERTIFIED)
        by = OF_SMOOTHED if found.get("method") == "smoothing" else attack
        yield (
            name, cell_text(row.get("parameters")), spent, where, n, by, _percent(found[CLEAN]), _percent(attacked),
            _percent(certified) if certified else "-", found["trust"]["verdict"],
        )  # fmt: skip


def _spent(row: Row) -> str:
    planned = row.get("row_epochs", row["epochs"])
    of = f" of {planned:g}" if row["epochs"] < WHOLE * planned else ""
    spent = f"{row['epochs']:g}{of} epochs, {row['train_seconds']:,.0f} s"
    if row.get("rolled_back"):
        spent += f"; rolled back at step {', '.join(map(str, row['rolled_back']))}, several steps from there"
    return spent


def _replaced(rows: Mapping[str, Row]) -> list[str]:
    """What rows said before they were measured again."""
    return [
        line
        for name, row in rows.items()
        for before in row.get("replaced", ())
        for line in (
            f"`{name}` was measured again. Before, at commit {before['commit']}: attacked "
            f"{_percent(before['measured'][FAST][ROBUST])}, trained for {_spent(before)}.",
            "",
        )
    ]


def frontier(result: Result) -> bytes:
    """The picture: clean accuracy, robust accuracy and seconds of training of networks trained for one eps."""
    shown = [
        (
            f"{name}{_mark(found)}",
            _rate(found[CLEAN]),
            _rate(found.get(ROBUST) or found["attacked_accuracy"]),
            row["train_seconds"],
        )
        for name, row, found in _within_eps(result["rows"])
    ]
    shown.sort(key=lambda row: -row[2].bounds.value)
    return frontier_png(shown, f"Clean and robust accuracy, linf {FRONTIER_EPS:g}")


def _mark(found: Mapping[str, Any]) -> str:
    verdict = found["trust"]["verdict"]
    return "" if verdict == "reliable" else f" ({verdict})"


def _within_eps(rows: Mapping[str, Row]) -> Iterable[tuple[str, Row, Mapping[str, Any]]]:
    """Name, row and the measurement that every such network has."""
    for name, row in rows.items():
        if (row.get("norm"), row.get("eps")) == ("linf", FRONTIER_EPS) and FAST in row.get("measured", {}):
            yield name, row, row["measured"][FAST]


def _pictured(rows: Mapping[str, Row]) -> list[str]:
    shown = list(_within_eps(rows))
    claims = sum(found["trust"]["verdict"] == "reliable" for _, _, found in shown)
    return [
        f"![Clean accuracy, robust accuracy and seconds of training of {len(shown)} networks]({FRONTIER})",
        "",
        f"All {len(shown)} networks that were trained for linf {FRONTIER_EPS:g}, attacked by `fast` on the same 1,000 "
        f"test images; the seconds are of one thread. {claims} of {len(shown)} verdicts are "
        "`reliable`.",
        "",
    ]


def _rate(value: Mapping[str, Any]) -> Rate:
    return Rate(value["value"], value["ci_low"], value["ci_high"], value["n"], value["successes"])


def _percent(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return "-"
    return f"{100 * rate['value']:.1f} [{100 * rate['ci_low']:.1f}, {100 * rate['ci_high']:.1f}]"


def _colour(rows: Mapping[str, Row]) -> list[str]:
    shown = {name: row for name, row in rows.items() if name.startswith("colour-")}
    if not shown:
        return []
    cells = [
        (name.removeprefix("colour-"), row["budget"]["eps_text"],
         *(_percent(row[rate]) for rate in (CLEAN, "attacked_accuracy", CERTIFIED)), row["trust"]["verdict"])
        for name, row in shown.items()
    ]  # fmt: skip
    return [
        "## A 3-channel network with batch normalisation",
        "",
        "Synthetic 16 x 16 colour images of 4 classes: hardened on 2,000, certified and attacked on others, from end "
        "to end. It shows that the parts fit together; the task is easy.",
        "",
        *table(("bounds", "eps", "clean", "attacked by fast", "certified", "verdict"), cells),
    ]


def _minutes(rows: Mapping[str, Row]) -> list[str]:
    speeds = {name.removeprefix("speed-"): row for name, row in rows.items() if name.startswith("speed-")}
    if not speeds:
        return []
    cells = [
        (name, row["steps_a_second"], row["epochs"], row["minutes"], row["machine"]) for name, row in speeds.items()
    ]
    columns = ("row", "steps a second", "epochs", "minutes, checks counted", "machine")
    return [
        "## Minutes on two threads",
        "",
        "From processor seconds of 50 steps all over the schedule (`--speed`), so that other work on the machine does "
        "not count.",
        "",
        *table(columns, cells),
    ]


def _transforms(rows: Mapping[str, Row]) -> list[str]:
    shown = {name: row for name, row in rows.items() if name.startswith("transform-")}
    if not shown:
        return []
    cells = [
        (name.removeprefix("transform-"), row["data"], _percent(row["naive"]["clean"]),
         *(_percent(row[way]["robust"]) for way in ("naive", "adaptive")), row["adaptive"]["attack"])
        for name, row in shown.items()
    ]  # fmt: skip
    columns = ("transformation", "data", "clean", "naive PGD", "adaptive PGD", "adaptive attack")
    trained = "Around one network trained without a defence, as the script does it: 3 epochs of 20,000 training images."
    return ["## Input transformations", "", trained, "", *table(columns, cells)]
