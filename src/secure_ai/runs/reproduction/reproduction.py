"""The reproduction table: every published figure, ours by the same protocol, ours measured correctly, and why.

The explanations are rules over measurements (`rules`, `claims`), so other measurements give other sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_ai.runs.cases.report_1 import figures as published_report_1
from secure_ai.runs.cases.report_2 import figures as published_report_2
from secure_ai.runs.reproduction.judge import Judgement, Published, Unit, reading_text, value_text
from secure_ai.runs.reproduction.values import Reading

PUBLISHED: tuple[Published, ...] = (
    *published_report_1.FIGURES,
    *published_report_1.CLAIMS,
    *published_report_2.FIGURES,
    *published_report_2.CLAIMS,
)
CONDITIONS = {
    "pgd": "under PGD-40",
    "suite": "under a whole suite",
    "fgsm": "under its own FGSM",
    "transferred": "on transferred examples",
}
"""Last part of an id -> what a robust accuracy was measured under, where it is another attack than the report's."""
HEADLINES = (  # what the reports lead with; shown first
    ("report-1", "table-1/accuracy"),
    ("report-1", "table-4/fgsm-accuracy"),
    ("report-1", "table-6/defended-fgsm-accuracy"),
    ("report-1", "table-5/trigger"),
    ("report-2", "section-7/fgsm-accuracy"),
    ("report-2", "section-8/defended-fgsm-accuracy"),
    ("report-2", "section-6/trigger"),
    ("report-2", "table-1/inference-time"),
)


def compare(values: Mapping[str, Any], *, reports: tuple[str, ...] = ("report-1", "report-2")) -> list[dict[str, Any]]:
    """Judge every published figure and claim.

    Args:
        values: id to rate, number or confusion matrix; the ids are `values.VALUE_KEYS`. What is absent is reported as
            `not_measured`.
        reports: which reports to judge.

    Returns:
        The `reproduction` list of report.json, one row a figure or claim: `report`, `figure`, `headline`, `published`
        {`text`, `value`, `unit`}, `same_protocol` and `correct` ({`id`, `value`, `text`, `word`, `condition`} or null;
        `word` is the trust word, `condition` the attack where it is not the report's), `holds` (`yes | no |
        not_measured | not_comparable`), `status` (`supported | not_supported | wrong | not_measured |
        not_comparable`), `reason` (one sentence) and `tolerance` (null, or why a re-trained network may differ).
    """
    return [_as_row(row, row.rule(row, values)) for row in PUBLISHED if row.report in reports]


def _as_row(row: Published, judgement: Judgement) -> dict[str, Any]:
    return {
        "report": row.report,
        "figure": row.figure,
        "headline": (row.report, row.figure) in HEADLINES,
        "published": {
            "text": row.text,
            "value": row.value,
            "unit": row.unit,
            "value_text": "" if row.value is None else value_text(row.value, row.unit),
        },
        "same_protocol": _number(judgement.same, row.unit),
        "correct": _number(judgement.correct, row.unit, beside=judgement.same),
        "holds": judgement.holds.value,
        "status": judgement.status.value,
        "reason": judgement.reason,
        "tolerance": row.tolerance.reason if row.tolerance else None,
    }


def _number(item: Reading | None, unit: Unit, beside: Reading | None = None) -> dict[str, Any] | None:
    if item is None:
        return None
    condition = "" if beside is None or beside.id == item.id else CONDITIONS.get(item.id.rpartition("/")[2], "")
    content: dict[str, Any] = {
        "id": item.id,
        "value": item.value,
        "text": reading_text(item, unit) + (f", {condition}" if condition else ""),
        "value_text": value_text(item.value, unit),
        "word": item.word,
        "condition": condition,
    }
    return content | ({"ci_low": item.low, "ci_high": item.high, "n": item.n} if item.is_rate else {})
