"""What a row of the reproduction table is made of: the published figure, its tolerance, and the judgement on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secure_ai.report.model import Basis, FigureStatus, FigureUnit, Holds
from secure_ai.report.render.text import percent, seconds_text
from secure_ai.runs.reproduction.values import Measured, Reading


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a re-trained network may lie from a published figure before the figure counts as not reproduced.

    Attributes:
        absolute: added to both ends of our interval (shares).
        factor: at least 1; both ends are also divided and multiplied by it (losses).
        what: the figure that moves this much between training seeds and frameworks.
        runs: how many runs its spread was measured on; 0: reasoned, not measured.
    """

    absolute: float
    factor: float
    what: str
    runs: int = 0

    def __str__(self) -> str:
        """How much, and where it is from, for sentences."""
        if self.factor > 1:
            return f"a factor of {self.factor:g}, {self._origin}"
        return f"{100 * self.absolute:g} points, {self._origin}" if self.absolute else "nothing"

    @property
    def reason(self) -> str:
        """What moves, and how that is known."""
        return f"{self.what}, {self._origin}"

    @property
    def _origin(self) -> str:
        return f"the spread of {self.runs} measured runs" if self.runs else "a fixed tolerance, not a measured spread"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one published statement, with the two numbers that stand beside it; `basis` as in `Figure`."""

    status: FigureStatus
    reason: str
    same: Reading | None = None
    correct: Reading | None = None
    basis: Basis = "measured"

    @property
    def holds(self) -> Holds:
        """`yes` only where the statement is supported."""
        if self.status is FigureStatus.NOT_MEASURED:
            return Holds.NOT_MEASURED
        if self.status is FigureStatus.NOT_COMPARABLE:
            return Holds.NOT_COMPARABLE
        return Holds.YES if self.status is FigureStatus.SUPPORTED else Holds.NO


@dataclass(frozen=True, slots=True)
class Published:
    """One figure or claim as it was published.

    Attributes:
        report: id of the report.
        figure: where it stands there, e.g. `table-6/defended-fgsm`.
        text: what it says.
        value: the number, in base units (a share in [0, 1], seconds, ...); None for a claim in words.
        unit: of `value` and of the two numbers beside it.
        rule: the function that judges it.
        same: id of our value by the report's own protocol.
        correct: id of our value measured correctly; empty where the report's protocol is correct.
        tolerance: for rules that compare numbers.
        headline: whether the report's conclusion rests on it.
    """

    report: str
    figure: str
    text: str
    value: float | None
    unit: FigureUnit
    rule: FigureRule
    same: str = ""
    correct: str = ""
    tolerance: Tolerance | None = None
    headline: bool = False


FigureRule = Callable[[Published, Measured], Judgement]


def value_text(value: float, unit: FigureUnit) -> str:
    """`value` in the spelling of its unit."""
    match unit:
        case "share":
            return percent(value)
        case "points":
            return f"{100 * value:.2f} points"
        case "loss":
            return f"{value:.4f}"
        case "seconds":
            return seconds_text(value)
        case "ratio":
            return f"{value:.3g} times"
        case _:
            return f"{value:,.6g}"


def reading_text(item: Reading, unit: FigureUnit) -> str:
    """A reading with its interval and n where it is a rate."""
    if not item.is_rate:
        return value_text(item.value, unit) + _in_brackets(item)
    return f"{percent(item.value)} [{100 * item.low:.2f}, {100 * item.high:.2f}], n = {item.n:,}{_in_brackets(item)}"


def brief(item: Reading, unit: FigureUnit = "share") -> str:
    """A reading without interval, with its trust word: for sentences."""
    return value_text(item.value, unit) + _in_brackets(item)


def _in_brackets(item: Reading) -> str:
    return f" ({item.word})" if item.word else ""


def within(value: float, item: Reading, tolerance: Tolerance) -> bool:
    """Is `value` inside the 95 % interval of `item`, widened by the tolerance?"""
    low = item.low / tolerance.factor - tolerance.absolute
    high = item.high * tolerance.factor + tolerance.absolute
    return low <= value <= high


def clearly_above(first: Reading, second: Reading, margin: float) -> bool:
    """Is `first` above `second` by at least `margin`, with intervals that do not touch?"""
    return first.low > second.high and first.value - second.value >= margin


def missing(*identifiers: str) -> Judgement:
    """The judgement where `identifiers` were needed and at least one was not measured."""
    names = ", ".join(dict.fromkeys(name for name in identifiers if name))
    return Judgement(FigureStatus.NOT_MEASURED, f"This run did not measure {names or 'it'}.")
