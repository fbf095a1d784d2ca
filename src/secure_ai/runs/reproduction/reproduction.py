"""The reproduction table: every published figure, ours by the same protocol, ours measured correctly, and why.

The explanations are rules over measurements (`rules`, `claims`), so other measurements give other sentences.
"""

from __future__ import annotations

from collections.abc import Iterable

from secure_ai.report.model import Figure, FigureUnit, OurValue, PublishedValue
from secure_ai.runs.reproduction.judge import Judgement, Published, reading_text, value_text
from secure_ai.runs.reproduction.values import Measured, Reading

CONDITIONS = {
    "pgd": "under PGD-40",
    "suite": "under a whole suite",
    "fgsm": "under its own FGSM",
    "transferred": "on transferred examples",
}
"""What a robust accuracy was measured under, where it is another attack than the report's."""


def compare(measured: Measured, published: Iterable[Published]) -> tuple[Figure, ...]:
    """Judge every published figure and claim; one that needs what was not measured is `not_measured`."""
    return tuple(_figure(row, row.rule(row, measured)) for row in published)


def _figure(row: Published, judgement: Judgement) -> Figure:
    text = "" if row.value is None else value_text(row.value, row.unit)
    return Figure(
        report=row.report,
        figure=row.figure,
        headline=row.headline,
        published=PublishedValue(text=row.text, value=row.value, unit=row.unit, value_text=text),
        same_protocol=_ours(judgement.same, row.unit),
        correct=_ours(judgement.correct, row.unit, beside=judgement.same),
        holds=judgement.holds,
        status=judgement.status,
        reason=judgement.reason,
        tolerance=row.tolerance.reason if row.tolerance else None,
        tolerance_runs=row.tolerance.runs if row.tolerance else None,
        basis=judgement.basis,
    )


def _ours(item: Reading | None, unit: FigureUnit, beside: Reading | None = None) -> OurValue | None:
    if item is None:
        return None
    condition = "" if beside is None or beside.id == item.id else CONDITIONS.get(item.condition, "")
    return OurValue(
        id=item.id,
        value=item.value,
        text=reading_text(item, unit) + (f", {condition}" if condition else ""),
        value_text=value_text(item.value, unit),
        word=item.word,
        condition=condition,
        ci_low=item.low if item.is_rate else None,
        ci_high=item.high if item.is_rate else None,
        n=item.n if item.is_rate else None,
    )
