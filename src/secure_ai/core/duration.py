"""How long something may take, as people write it."""

from __future__ import annotations

from secure_ai.core.errors import UsageError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
MOST_SECONDS = 10**7


def parse_duration(value: str | float) -> float:
    """Seconds from `90`, `90s`, `10m` or `2h`, or from a number of seconds. Raises UsageError."""
    text = str(value)
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < MOST_SECONDS:
        raise UsageError("not a duration", where="--time-budget", expected="e.g. 90s, 10m, 2h", got=text)
    return seconds
