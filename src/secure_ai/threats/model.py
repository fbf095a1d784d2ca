"""What a run says of one row of the STRIDE register: the entry of `threats` in report.json."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from secure_ai.threats.taxonomy import Letter

Claimed = Literal["implemented", "proposed"]


class ThreatStatus(enum.StrEnum):
    """What the measurements say of a mitigation; `residual`: it works, and a measured part of the threat stays."""

    MITIGATED = "mitigated"
    RESIDUAL = "residual"
    INEFFECTIVE = "ineffective"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTED = "not_tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threat:
    """One mitigation of one threat, as a report states it, with what was measured about it.

    Attributes:
        id: unique and stable.
        report: `report-1` or `report-2`; `where`: the place in it.
        claimed: what the report says of the mitigation.
        reason: one sentence, why the status is what it is.
        evidence: ids of measurements; findings: ids of findings about the same measurements.
        indicative: whether the status stands on fewer samples than a claim needs.
    """

    id: str
    letter: Letter
    threat: str
    mitigation: str
    report: str
    where: str
    claimed: Claimed
    status: ThreatStatus
    reason: str
    evidence: tuple[str, ...]
    findings: tuple[str, ...] = ()
    taxonomy: tuple[str, ...]
    indicative: bool = False
