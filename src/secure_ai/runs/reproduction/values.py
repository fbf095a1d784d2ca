"""What a run measured, by id: what the rules of the reproduction table read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from secure_ai.core.comparisons import Confusion
from secure_ai.core.result import Result
from secure_ai.core.results import MeasuredQuantity, Measurement
from secure_ai.report.model import TrustWord
from secure_ai.report.render.text import word_of


@dataclass(frozen=True, slots=True)
class Reading:
    """One value beside a published one: a rate, or a loss, seconds, a count or a ratio.

    Attributes:
        value: in base units, between `low` and `high`, the ends of its interval.
        n: samples behind it; `is_rate`: whether it is a fraction of these.
        word: what must stand beside the value wherever it is printed.
        condition: what was done to the images, as of `Measurement`.
    """

    id: str
    value: float
    low: float
    high: float
    n: int = 0
    word: TrustWord = ""
    condition: str = ""
    is_rate: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that one run measured, by id. A rate or quantity without a value counts as not measured."""

    rates: Mapping[str, Measurement]
    quantities: Mapping[str, MeasuredQuantity]
    confusions: Mapping[str, Confusion]

    def rate(self, identifier: str) -> Measurement | None:
        """The measurement, where it has a value."""
        found = self.rates.get(identifier)
        return None if found is None or found.value.value is None else found

    def quantity(self, identifier: str) -> MeasuredQuantity | None:
        """The quantity, where it has a finite value."""
        found = self.quantities.get(identifier)
        return None if found is None or found.value is None or not math.isfinite(found.value) else found

    def confusion(self, identifier: str) -> Confusion | None:
        """The confusion matrix."""
        return self.confusions.get(identifier)

    def reading(self, identifier: str) -> Reading | None:
        """The rate or quantity."""
        rate, quantity = self.rate(identifier), self.quantity(identifier)
        if rate is not None:
            n, word = rate.value.n, word_of(rate, rate.value.n)
            return Reading(identifier, *rate.value.bounds, n, word, rate.condition, is_rate=True)
        if quantity is None or quantity.value is None:
            return None
        value = quantity.value
        low = value if quantity.low is None else quantity.low
        high = value if quantity.high is None else quantity.high
        return Reading(identifier, value, low, high, quantity.n, word_of(quantity, quantity.n))

    def readings(self, identifiers: Iterable[str]) -> tuple[Reading, ...] | None:
        """All of `identifiers`, or None where one was not measured."""
        found = [self.reading(identifier) for identifier in identifiers]
        present = tuple(item for item in found if item is not None)
        return present if len(present) == len(found) else None

    def absent(self, *identifiers: str) -> tuple[str, ...]:
        """Those of `identifiers` that were not measured."""
        return tuple(name for name in identifiers if self.reading(name) is None)


def measured_in(result: Result) -> Measured:
    """What the rules read of `result`."""
    return Measured(
        {m.id: m for m in result.measurements},
        {q.id: q for q in result.quantities},
        {c.id: c for c in result.confusions},
    )
