"""`threat_model.md`: both reports' STRIDE rows, what each report claims of them, and what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from secure_ai.report.model import Report
from secure_ai.report.render.markdown import escape, markdown_table
from secure_ai.report.render.text import measurement
from secure_ai.threats.model import Threat, ThreatStatus
from secure_ai.threats.taxonomy import ATLAS_VERSION, NAMES, STRIDE

STATUS_WORDS = {
    ThreatStatus.MITIGATED: "measured: mitigated",
    ThreatStatus.RESIDUAL: "measured: residual",
    ThreatStatus.INEFFECTIVE: "measured: ineffective",
    ThreatStatus.INCONCLUSIVE: "measured: inconclusive",
    ThreatStatus.NOT_TESTED: "not tested",
}
COLUMNS = ("mitigation", "source", "claimed there", "status", "why", "evidence", "taxonomy")
INTRODUCTION = (
    "Rows, and the words `implemented` and `proposed`, are the reports' own. The status is ours: it comes from "
    "measurements of this run, with the mitigation on and off. A row without a measurement is not tested, whatever the "
    "report claims. A mitigation counts as measured for these networks, data and budgets only."
)


def render_threat_model(report: Report) -> str:
    """The threat model as Markdown; the same text for the same report."""
    evidence = {m.id: f"{m.id}: {measurement(m)}" for m in report.measurements}
    if not report.threats:
        return "# Threat model (STRIDE)\n\nNothing that this run measured belongs to a row of the register.\n"
    parts = ["# Threat model (STRIDE)", INTRODUCTION, _summary(report.threats)]
    for letter, name in STRIDE.items():
        rows = [row for row in report.threats if row.letter == letter]
        if rows:
            parts.append(f"## {letter}: {name}")
        for threat in dict.fromkeys(row.threat for row in rows):
            about = [_row(row, evidence) for row in rows if row.threat == threat]
            parts += [f"### {escape(threat)}", markdown_table(COLUMNS, about)]
    used = sorted({identifier for row in report.threats for identifier in row.taxonomy})
    if used:
        names = [(identifier, NAMES.get(identifier, "")) for identifier in used]
        parts += ["## Taxonomy", f"MITRE ATLAS {ATLAS_VERSION}, OWASP ML Top 10 (2023), NIST AI 100-2 E2025, CWE."]
        parts += [markdown_table(("id", "name"), names)]
    return "\n\n".join(parts) + "\n"


def _summary(rows: Sequence[Threat]) -> str:
    counts = Counter((row.claimed, row.status) for row in rows)
    cells = [
        (claimed, *(str(counts[claimed, status]) for status in STATUS_WORDS)) for claimed in ("implemented", "proposed")
    ]
    return markdown_table(("claimed there", *STATUS_WORDS.values()), cells)


def _row(row: Threat, evidence: Mapping[str, str]) -> tuple[str, ...]:
    return (
        row.mitigation,
        f"{row.report}, {row.where}",
        row.claimed,
        STATUS_WORDS[row.status] + (" (indicative)" if row.indicative else ""),
        row.reason,
        "; ".join(evidence.get(name, name) for name in row.evidence) or "none",
        ", ".join(row.taxonomy),
    )
