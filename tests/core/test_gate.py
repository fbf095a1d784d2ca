"""`--fail-on`: findings first, and no number that is not to be trusted passes."""

from __future__ import annotations

import pytest

from secure_ai.core.findings import FailOn, Finding, Severity, gate
from secure_ai.core.trust import FED_WRONGLY, Trust, Verdict, check

LOW = (Finding(id="X", severity=Severity.LOW, severity_rule="", message="", location=""),)
RELIABLE, DOUBTFUL, BROKEN = Verdict


@pytest.mark.parametrize(
    ("findings", "fail_on", "verdicts", "code"),
    [
        (LOW, "never", [BROKEN], 0),
        (LOW, "low", [RELIABLE], 1),
        (LOW, "low", [BROKEN], 1),
        (LOW, "high", [RELIABLE, RELIABLE], 0),
        (LOW, "high", [RELIABLE, DOUBTFUL], 3),
        ((), "low", [BROKEN], 3),
        ((), "low", [], 0),
    ],
)
def test_the_exit_code_of_a_gate(
    findings: tuple[Finding, ...], fail_on: FailOn, verdicts: list[Verdict], code: int
) -> None:
    assert gate(findings, fail_on, [Trust(verdict, ()) for verdict in verdicts]) == code


@pytest.mark.parametrize("identifier", sorted(FED_WRONGLY))
def test_a_network_that_is_fed_wrongly_is_inconclusive_whatever_the_gate(identifier: str) -> None:
    for ok, never, low in ((False, 3, 3), (True, 0, 1), (None, 0, 1)):
        trust = Trust(DOUBTFUL, (check(identifier, ok, ""), check("sample-size", False, "")))
        assert (gate(LOW, "never", [trust]), gate(LOW, "low", [trust])) == (never, low)
