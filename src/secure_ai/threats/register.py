"""The STRIDE register: a row as a report states it, and what was measured about it.

`claimed` is what the report says of the mitigation (`implemented` or `proposed`); the status is ours and comes from
measurements only. A row without a rule, or whose measurements are missing, is `not_tested`. The rows themselves belong
to the cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secure_ai.core.findings import Finding
from secure_ai.core.results import MeasuredChoice, Measurement
from secure_ai.threats.model import Claimed, Threat, ThreatStatus
from secure_ai.threats.rules import Measurements, ThreatJudgement, ThreatRule, measurement_text
from secure_ai.threats.taxonomy import Letter

Evidence = Measurement | MeasuredChoice


@dataclass(frozen=True, slots=True)
class Row:
    """One mitigation of one threat, as a report states it.

    Attributes:
        id: unique and stable.
        report: id of the report, e.g. `report-1`.
        where: the place in that report.
        rule: how measurements decide the status; None where nothing measures it yet.
    """

    id: str
    report: str
    where: str
    letter: Letter
    threat: str
    mitigation: str
    claimed: Claimed
    taxonomy: tuple[str, ...]
    rule: ThreatRule | None = None


def threat_rows(
    rows: Sequence[Row],
    measurements: Iterable[Measurement],
    findings: Sequence[Finding],
    evidence: Mapping[str, tuple[Evidence, ...]] | None = None,
) -> tuple[Threat, ...]:
    """Every row with the status that the measurements give it.

    Args:
        rows: of every case.
        findings: those whose own evidence names a measurement behind a row are listed with it.
        evidence: what measures found about a row, by its id. It is listed, and decides nothing: a row without a rule
            stays `not_tested`.

    Raises:
        ValueError: evidence for a row that is not in `rows`.
    """
    known = {m.id: m for m in measurements}
    given = evidence or {}
    unknown = given.keys() - {row.id for row in rows}
    if unknown:
        raise ValueError(f"evidence for rows that the register does not hold: {', '.join(sorted(unknown))}")
    return tuple(_filled(row, known, findings, given.get(row.id, ())) for row in rows)


def _filled(row: Row, known: Measurements, findings: Sequence[Finding], given: tuple[Evidence, ...]) -> Threat:
    judgement = row.rule.apply(known) if row.rule else _unjudged(given)
    own = [name for name in row.rule.evidence if name in known] if row.rule else []
    names = tuple(dict.fromkeys([*own, *(item.id for item in given)]))
    return Threat(
        id=row.id,
        letter=row.letter,
        threat=row.threat,
        mitigation=row.mitigation,
        report=row.report,
        where=row.where,
        claimed=row.claimed,
        status=judgement.status,
        reason=judgement.reason,
        evidence=names,
        findings=_findings_about(names, findings),
        taxonomy=row.taxonomy,
        indicative=judgement.indicative,
    )


def _unjudged(given: tuple[Evidence, ...]) -> ThreatJudgement:
    """Evidence without a rule says nothing of the mitigation; it is shown."""
    if not given:
        return ThreatJudgement(ThreatStatus.NOT_TESTED, "No measurement of this tool covers it yet.")
    facts = "; ".join(f"{item.id} is {_text(item)}" for item in given)
    return ThreatJudgement(ThreatStatus.NOT_TESTED, f"Measured, but no rule judges it: {facts}.")


def _text(item: Evidence) -> str:
    return measurement_text(item) if isinstance(item, Measurement) else item.value.replace("_", " ")


def _findings_about(names: tuple[str, ...], findings: Sequence[Finding]) -> tuple[str, ...]:
    """Ids of findings whose own evidence names one of these measurements."""
    about = [f.id for f in findings if any(isinstance(v, str) and v in names for v in f.evidence.values())]
    return tuple(dict.fromkeys(about))
