"""Whether a report agrees with itself: rates with their counts, verdicts of trust with their checks."""

from __future__ import annotations

from secure_ai.core.errors import FormatError
from secure_ai.core.results import Rate, rate
from secure_ai.core.trust import CheckOutcome, Trust, Verdict
from secure_ai.report.model import Report

ROUNDING = 1e-9


def refuse_inconsistent(report: Report, where: str) -> None:
    """Raises FormatError for a rate that its counts do not give, or a verdict that its checks do not give.

    Args:
        where: named in errors, with the id of the entry.
    """
    for m in report.measurements:
        _rate(m.value, f"{where}, {m.id}")
        _trust(m.trust, f"{where}, {m.id}")
    for transfer in report.transfers:
        for value in (value for row in transfer.rates for value in row):
            _rate(value, f"{where}, {transfer.id}")
    for distance in report.distances:
        _rate(distance.found, f"{where}, {distance.id}")
        _trust(distance.trust, f"{where}, {distance.id}")
    for quantity in report.quantities:
        _trust(quantity.trust, f"{where}, {quantity.id}")
    for choice in report.choices:
        _trust(choice.trust, f"{where}, {choice.id}")
    for section in report.sections:
        for value in (cell for row in section.rows for cell in row if isinstance(cell, Rate)):
            _rate(value, f"{where}, {section.id}")


def _rate(value: Rate, where: str) -> None:
    """A rate must be the one that its counts give."""
    if value.value is None:
        return
    computed = rate(value.successes, value.n, value.n_effective)
    pairs = ((computed.value, value.value), (computed.ci_low, value.ci_low), (computed.ci_high, value.ci_high))
    if any(ours is None or theirs is None or abs(ours - theirs) > ROUNDING for ours, theirs in pairs):
        raise FormatError(
            "a rate that its counts do not give", where=where, expected=computed.value, got=value.value
        )  # fmt: skip


def _trust(trust: Trust | None, where: str) -> None:
    """A number is `reliable` only where a check ran and none failed."""
    if trust is None or trust.verdict is not Verdict.RELIABLE:
        return
    failed = [made.id for made in trust.checks if made.outcome is CheckOutcome.FAIL]
    if failed or all(made.outcome is not CheckOutcome.PASS for made in trust.checks):
        got = f"reliable, failed: {', '.join(failed)}" if failed else "reliable, and no check ran"
        raise FormatError("a verdict that its checks do not give", where=where, expected="doubtful or broken", got=got)
