"""One spelling of numbers and trust for every format: terminal, HTML, Markdown, SARIF.

A number whose trust verdict is not `reliable`, or whose n is too small for a claim, is never spelled without that word:
renderers call `measurement_text`, which puts both into one string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_ai.core.errors import printable
from secure_ai.core.trust import MIN_N_FOR_A_CLAIM, Verdict

MAX_CELL_CHARACTERS = 1000


def cell(value: object) -> str:
    """`value` as one printable line: control and direction-changing characters appear escaped, never raw."""
    return printable(value, MAX_CELL_CHARACTERS)


def percent(value: float, digits: int = 2) -> str:
    """A share as text, e.g. `0.059` as `5.90 %`."""
    return f"{100 * value:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, without sign: `0.933` as `93.3 points`."""
    return f"{abs(100 * difference):.1f} points"


def work_text(run: Mapping[str, Any]) -> str:
    """How long the work took, and how much of it was taken from an earlier run."""
    stages, reused = run.get("stage_seconds") or {}, len(run.get("reused") or [])
    if not reused:
        return seconds_text(run["seconds"])
    done = f"{seconds_text(sum(stages.values()))} of work"
    return f"{done}, {reused} of {len(stages)} stages from an earlier run"


def seconds_text(seconds: float) -> str:
    """A duration in the unit that reads best: `30.2 µs`, `5.94 ms`, `20.1 s`, `12 min 55 s`."""
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} µs"
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def rate_text(rate: Mapping[str, Any]) -> str:
    """An R of the output contract, e.g. `5.90 % [5.45, 6.38], n = 10,000`; its reason where it has no value."""
    if rate.get("value") is None:
        return f"none ({cell(rate.get('reason') or 'no reason given')})"
    if rate.get("ci_low") is None or rate.get("ci_high") is None:
        return percent(rate["value"])
    return f"{percent(rate['value'])} [{100 * rate['ci_low']:.2f}, {100 * rate['ci_high']:.2f}], n = {int(rate['n']):,}"


def trust_word(measurement: Mapping[str, Any]) -> str:
    """The word that must stand beside the number: `broken`, `doubtful`, `indicative` (n too small), or nothing."""
    verdict = (measurement.get("trust") or {}).get("verdict")
    if verdict in (Verdict.BROKEN, Verdict.DOUBTFUL):
        return str(verdict)
    rate = measurement["value"]
    return "indicative" if rate.get("value") is not None and rate["n"] < MIN_N_FOR_A_CLAIM else ""


def trust_badge(measurement: Mapping[str, Any]) -> str:
    """`trust_word`, or `reliable` where checks ran and said so, or `no checks`."""
    word = trust_word(measurement)
    if word:
        return word
    return "reliable" if (measurement.get("trust") or {}).get("verdict") == Verdict.RELIABLE else "no checks"


def measurement_text(measurement: Mapping[str, Any]) -> str:
    """The rate with its interval, n and, where it needs one, its trust word."""
    word = trust_word(measurement)
    return rate_text(measurement["value"]) + (f" ({word})" if word else "")


def short_text(measurement: Mapping[str, Any]) -> str:
    """The value and its trust word only, e.g. `33.00 % (doubtful)`; for places where the interval stands elsewhere."""
    value = measurement["value"].get("value")
    word = trust_word(measurement)
    return ("none" if value is None else percent(value)) + (f" ({word})" if word else "")


def budget_text(measurement: Mapping[str, Any]) -> str:
    """E.g. `linf 8/255`, or nothing where no attack was made."""
    budget = measurement.get("budget")
    return f"{cell(budget['norm'])} {cell(budget['eps_text'])}" if budget else ""


def plural(count: int, noun: str) -> str:
    """`1 finding`, `2 findings`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
