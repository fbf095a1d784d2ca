"""Whether a report agrees with itself: rates with their counts, verdicts of trust with their checks."""

from __future__ import annotations

from secure_ai.core.errors import FormatError
from secure_ai.core.results import Rate, rate
from secure_ai.core.trust import CheckOutcome, Trust, Verdict, judge
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
    """A verdict must be the one that its checks give; which failures break a number, a reader need not know."""
    if trust is None:
        return
    computed = judge(trust.checks, breaking=frozenset()).verdict
    failed = [made.id for made in trust.checks if made.outcome is CheckOutcome.FAIL]
    if trust.verdict is not computed and not (trust.verdict is Verdict.BROKEN and failed):
        got = f"{trust.verdict}, failed: {', '.join(failed) or 'none'}"
        raise FormatError("a verdict that its checks do not give", where=where, expected=computed, got=got)
