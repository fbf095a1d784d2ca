"""`threat_model.md`: both reports' STRIDE rows, what each report claims of them, and what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from secure_ai.report.render.markdown import escape, markdown_table
from secure_ai.report.render.terminal import Table
from secure_ai.report.render.text import measurement_text
from secure_ai.threats.taxonomy import ATLAS_VERSION, NAMES, STRIDE

STATUS_WORDS = {
    "mitigated": "measured: mitigated",
    "ineffective": "measured: ineffective",
    "inconclusive": "measured: inconclusive",
    "not_tested": "not tested",
}
INTRODUCTION = (
    "Rows, and the words `implemented` and `proposed`, are the reports' own. The status is ours: it comes from "
    "measurements of this run, with the mitigation on and off. A row without a measurement is not tested, whatever the "
    "report claims. A mitigation counts as measured for these networks, data and budgets only."
)


def render_threat_model(report: Mapping[str, Any]) -> str:
    """The threat model as Markdown; the same text for the same report."""
    measured = {str(m["id"]): m for m in report["measurements"]}
    parts = ["# Threat model (STRIDE)", INTRODUCTION, _summary(report["threats"])]
    for letter, name in STRIDE.items():
        rows = [row for row in report["threats"] if row["letter"] == letter]
        if rows:
            parts.append(f"## {letter}: {name}")
        for threat in dict.fromkeys(row["threat"] for row in rows):
            about = [row for row in rows if row["threat"] == threat]
            parts += [f"### {escape(threat)}", markdown_table(_table(about, measured))]
    used = sorted({identifier for row in report["threats"] for identifier in row["taxonomy"]})
    if used:
        names = Table("", ("id", "name"), tuple((identifier, NAMES.get(identifier, "")) for identifier in used))
        parts += ["## Taxonomy", f"MITRE ATLAS {ATLAS_VERSION}, OWASP ML Top 10 (2023), NIST AI 100-2 E2025, CWE."]
        parts += [markdown_table(names)]
    return "\n\n".join(parts) + "\n"


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter((row["claimed"], row["status"]) for row in rows)
    cells = tuple(
        (claimed, *(str(counts[claimed, status]) for status in STATUS_WORDS)) for claimed in ("implemented", "proposed")
    )
    return markdown_table(Table("", ("claimed there", *STATUS_WORDS.values()), cells))


def _table(rows: Sequence[Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]) -> Table:
    cells = tuple(
        (
            row["mitigation"],
            f"{row['report']}, {row['where']}",
            row["claimed"],
            STATUS_WORDS.get(row["status"], row["status"]),
            row["reason"],
            "; ".join(evidence_text(name, measured) for name in row["evidence"]) or "none",
            ", ".join(row["taxonomy"]),
        )
        for row in rows
    )
    columns = ("mitigation", "source", "claimed there", "status", "why", "evidence", "taxonomy")
    return Table("", columns, cells)


def evidence_text(name: str, measured: Mapping[str, Mapping[str, Any]]) -> str:
    """A measurement's id with its value, or the id alone where it is not in the report."""
    return f"{name}: {measurement_text(measured[name])}" if name in measured else name
