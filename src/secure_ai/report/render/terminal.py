"""Tables for the terminal as plain data: the command line prints them, this module only decides what stands in them.

Every cell is one printable line, so a hostile name cannot move the cursor; whoever prints must escape its own markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.core.findings import Severity
from secure_ai.core.trust import CheckOutcome
from secure_ai.report.render.text import (
    budget_text,
    cell,
    measurement_text,
    rate_text,
    seconds_text,
    trust_badge,
    trust_word,
)

Report = Mapping[str, Any]
TRANSFER_METRIC = "transfer_accuracy"
DISTANCE_KEYS = ("median", "ci_low", "ci_high")


@dataclass(frozen=True, slots=True)
class Table:
    """A table: every row has as many cells as there are columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def all_tables(report: Report) -> list[Table]:
    """Every table that has rows, most important first."""
    tables = (
        reproduction_table(report, headlines_only=True),
        measurement_table(report),
        comparison_table(report),
        distance_table(report),
        *transfer_tables(report),
        finding_table(report),
        threat_table(report),
        not_tested_table(report),
    )
    return [table for table in tables if table.rows]


def number_text(number: Mapping[str, Any] | None) -> str:
    """A number of the reproduction table, or a dash where there is none."""
    return cell(number["text"]) if number else "-"


def holds_text(row: Mapping[str, Any]) -> str:
    """`yes`, `no`, `not measured`, `not judged` (a time), or `no support` where nothing contradicts it either."""
    if row["holds"] == "no" and row.get("status") == "not_supported":
        return "no support"
    return {"not_comparable": "not judged"}.get(row["holds"], cell(row["holds"]).replace("_", " "))


def reproduction_table(report: Report, *, headlines_only: bool = False) -> Table:
    """Published figures beside ours."""
    rows = [row for row in report["reproduction"] if row.get("headline") or not headlines_only]
    cells = [
        (
            f"{cell(row['report'])} {cell(row['figure'])}",
            cell(row["published"]["text"]),
            number_text(row["same_protocol"]),
            number_text(row["correct"]),
            holds_text(row),
            cell(row["reason"]),
        )
        for row in rows
    ]
    columns = ("figure", "published", "same protocol", "measured correctly", "holds", "why")
    return Table("Published figures" + (" (headlines)" if headlines_only else ""), columns, tuple(cells))


def measurement_table(report: Report) -> Table:
    """Every rate with n, interval and trust; those on examples made for another network stand in `transfer_tables`."""
    rows = [
        (cell(m["id"]), cell(m["metric"]), budget_text(m) or "-", measurement_text(m), trust_badge(m))
        for m in own_measurements(report)
    ]
    return Table("Measurements", ("id", "metric", "budget", "value", "trust"), tuple(rows))


def own_measurements(report: Report) -> list[Mapping[str, Any]]:
    """The measurements that are no entry of a transfer matrix shown beside them."""
    if not report.get("transfers"):
        return list(report["measurements"])
    return [m for m in report["measurements"] if m["metric"] != TRANSFER_METRIC]


def transfer_tables(report: Report) -> list[Table]:
    """One table a transfer matrix: a row for the network the examples were made for, a column a network scored."""
    tables = []
    for entry in report.get("transfers", []):
        rows = [
            (cell(source), *(rate_text(rate) for rate in row))
            for source, row in zip(entry["networks"], entry["rates"], strict=True)
        ]
        title = (
            f"Accuracy on examples made for another network ({cell(entry['attack'])}, {budget_text(entry)}); "
            "no robust accuracy: that needs examples made for the network itself"
        )
        columns = ("made for", *(f"scored on {cell(name)}" for name in entry["networks"]))
        tables.append(Table(title, columns, tuple(rows)))
    return tables


def comparison_table(report: Report) -> Table:
    """Before and after on the same images."""
    rows = [
        (
            cell(entry["card"]),
            f"{cell(entry['before'])} to {cell(entry['after'])}",
            f"{100 * entry['difference']:+.2f} [{100 * entry['ci_low']:+.2f}, {100 * entry['ci_high']:+.2f}], "
            f"n = {entry['n']:,}",
            "< 0.0001" if entry["p_holm"] < 1e-4 else f"{entry['p_holm']:.4f}",
            cell(entry["trust"]),
        )
        for entry in report.get("comparisons", [])
    ]
    columns = ("what", "measurements", "points of accuracy won", "p (McNemar, Holm)", "trust")
    return Table("Before and after on the same images", columns, tuple(rows))


def distance_table(report: Report) -> Table:
    """Median distances to the nearest example found."""
    rows = [
        (
            cell(entry["id"]),
            cell(entry["norm"]),
            distance_text(entry),
            rate_text(entry["found"]),
            cell(entry["attack"]),
            ", ".join(cell(made["id"]) for made in _failed(entry)) or "-",
        )
        for entry in report.get("distances", [])
    ]
    columns = ("id", "norm", "median distance found", "broken at any distance", "attack", "failed checks")
    return Table("Distance to the nearest adversarial example found (upper bounds)", columns, tuple(rows))


def _failed(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    checks = (entry.get("trust") or {}).get("checks", [])
    return [made for made in checks if made["outcome"] == CheckOutcome.FAIL]


def distance_text(entry: Mapping[str, Any]) -> str:
    """E.g. `0.0312 [0.0290, 0.0341], n = 200 (doubtful)`; `infinite` where a number is."""
    median, low, high = ("infinite" if entry[key] is None else f"{entry[key]:.4g}" for key in DISTANCE_KEYS)
    word = trust_word({**entry, "value": entry["found"]})
    return f"{median} [{low}, {high}], n = {entry['n']:,}" + (f" ({word})" if word else "")


def sorted_findings(report: Report) -> list[Mapping[str, Any]]:
    """Findings that the tool did not plant first, each part from the worst severity down."""
    return sorted(report["findings"], key=lambda f: (bool(f["planted"]), -Severity(f["severity"]).rank))


def finding_table(report: Report) -> Table:
    """Findings, worst first."""
    rows = [
        (
            finding["severity"] + (" (planted by the tool)" if finding["planted"] else ""),
            cell(finding["id"]),
            cell(finding["location"]),
            cell(finding["message"]),
        )
        for finding in sorted_findings(report)
    ]
    return Table("Findings", ("severity", "id", "where", "what"), tuple(rows))


def threat_table(report: Report) -> Table:
    """STRIDE rows that were measured; the others are counted in `not_tested_table`."""
    rows = [
        (row["letter"], cell(row["mitigation"]), cell(row["claimed"]), cell(row["status"]), cell(row["reason"]))
        for row in report["threats"]
        if row["status"] != "not_tested"
    ]
    return Table("STRIDE rows measured", ("", "mitigation", "claimed", "measured", "why"), tuple(rows))


def not_tested_table(report: Report) -> Table:
    """What this run says nothing about."""
    untested = sum(row["status"] == "not_tested" for row in report["threats"])
    texts = [cell(text) for text in report["not_tested"]]
    if untested:
        texts.append(f"{untested} of {len(report['threats'])} STRIDE mitigations of the reports")
    return Table("Not tested", ("what",), tuple((text,) for text in texts))


def stage_table(report: Report) -> Table:
    """Seconds per stage, longest first."""
    seconds = report["run"].get("stage_seconds") or {}
    reused = set(report["run"].get("reused") or ())
    rows = [
        (cell(name), seconds_text(took), "reused" if name in reused else "")
        for name, took in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    return Table("Stages", ("stage", "time", ""), tuple(rows))


def class_table(confusion: Mapping[str, Any]) -> Table:
    """Precision and recall of each class of an entry of `confusions`."""
    from secure_ai.report.render.confusion import per_class

    rows = [
        (str(row["label"]), rate_text(row["precision"]), rate_text(row["recall"]))
        for row in per_class(confusion["counts"])
    ]
    title = cell(confusion.get("title") or confusion["id"])
    return Table(title, ("class", "precision", "recall"), tuple(rows))
