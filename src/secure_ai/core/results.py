"""The values that results are made of: rates with their evidence, and measurements of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import EmptyDenominatorError
from secure_ai.core.statistics import wilson
from secure_ai.core.trust import CheckOutcome, Trust

SCHEMA_VERSION = 1
BORROWED = "made-for-another-network"  # the check that fails where examples were made for another model
CURVE = "curve"  # the condition of a security curve's points, whose budgets are not the one asked for

Drawn = Literal["all", "first", "stratified"]
"""How samples were chosen from their source: every one, the first N in file order, or a seeded stratified sample."""


class Bounds(NamedTuple):
    """A rate's value and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of samples with its 95 % Wilson interval: `R` in the output contract.

    The interval covers these images and this one model; it says nothing of other training seeds.

    Attributes:
        n_effective: how many independent samples the interval is made for, where that is fewer than `n`.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    successes: int
    reason: str = ""
    n_effective: int | None = None

    @property
    def bounds(self) -> Bounds:
        """Value and interval of a rate that has them. Raises EmptyDenominatorError for one without a value."""
        if self.value is None or self.ci_low is None or self.ci_high is None:
            raise EmptyDenominatorError("a rate without a value was judged", expected="n >= 1", got=self.reason)
        return Bounds(self.value, self.ci_low, self.ci_high)

    def as_json(self) -> dict[str, Any]:
        """`{"value", "ci_low", "ci_high", "n", "successes"}`; `reason` without a value, `n_effective` below `n`."""
        content: dict[str, Any] = {
            "value": self.value,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "n": self.n,
            "successes": self.successes,
        }
        content |= {} if self.n_effective is None else {"n_effective": self.n_effective}
        return content | ({"reason": self.reason} if self.reason else {})

    @property
    def worth(self) -> str:
        """What goes after n: empty, or e.g. ` (40 independent)`."""
        return "" if self.n_effective is None else f" ({self.n_effective:,} independent)"

    def __str__(self) -> str:
        """E.g. `5.90 % [5.45, 6.38], n = 10000`."""
        if self.value is None or self.ci_low is None or self.ci_high is None:
            return f"none ({self.reason})"
        return f"{100 * self.value:.2f} % [{100 * self.ci_low:.2f}, {100 * self.ci_high:.2f}], n = {self.n}{self.worth}"


def rate(successes: int, n: int, n_effective: int | None = None) -> Rate:
    """`successes` of `n` with its interval, of `n_effective` independent samples where these are fewer.

    Raises EmptyDenominatorError when n is 0, or n_effective not in 1..n.
    """
    if n_effective is None or n_effective == n:
        low, high = wilson(successes, n)
        return Rate(successes / n, low, high, n, successes)
    if not 1 <= n_effective < n:
        raise EmptyDenominatorError("no number of samples", expected=f"1..{n} independent ones", got=n_effective)
    low, high = wilson(successes * n_effective / n, n_effective)
    return Rate(successes / n, low, high, n, successes, n_effective=n_effective)


def of_effective(value: Rate, n_effective: int, of: int) -> Rate:
    """The same counts, taken from data of which `of` images are worth `n_effective` independent ones."""
    if value.value is None or n_effective >= of:
        return value
    return rate(value.successes, value.n, max(1, value.n * n_effective // of))


def rate_or_reason(successes: int, n: int, reason: str) -> Rate:
    """A rate, or where n is 0 a rate without a value that says why."""
    return rate(successes, n) if n else Rate(None, None, None, 0, 0, reason)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that is no rate: a loss, a distance, seconds, an AUROC, an anomaly index.

    Attributes:
        value: None where it is infinite or could not be measured; `reason` says which.
        unit: e.g. `nats`, `seconds`, `pixels in [0, 1], l2`; empty for a pure number.
        low, high: ends of its 95 % interval, None where there is none.
        n: samples behind it; 0 where it stands on no sample.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a closed list of words, e.g. `backdoored` of `not_detected, suspicious, backdoored, inconclusive`."""

    value: str
    allowed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured rate of one model: the entry of `measurements` in report.json.

    Attributes:
        id: unique in the report, e.g. `subject/pgd`.
        model: id of an entry of `models`.
        metric: a glossary name, e.g. `robust_accuracy`.
        protocol: how it was measured, one sentence, for people; no rule reads it.
        stage: the stage that measured it.
        replay: the command that measures it again.
        condition: what was done to the images, a word that rules and charts compare, e.g. `clean`, `fgsm`, `suite`.
        trigger: canonical text of the trigger on the images; empty where there is none.
        made_for: id of the model that the examples were made for, where that is another one.
        drawn: how the images were chosen from their source.
    """

    id: str
    model: str
    metric: str
    value: Rate
    protocol: str = ""
    stage: str
    replay: str
    budget: PerturbationBudget | None = None
    trust: Trust | None = None
    condition: str = ""
    trigger: str = ""
    made_for: str = ""
    drawn: Drawn = "all"

    @property
    def of_other_examples(self) -> bool:
        """Whether its examples were made for another model, as it says itself or its trust's check does."""
        checks = self.trust.checks if self.trust else ()
        failed = any(made.id == BORROWED and made.outcome is CheckOutcome.FAIL for made in checks)
        return failed or self.made_for not in ("", self.model)

    def as_json(self) -> dict[str, Any]:
        """The entry of `measurements`; `budget` and `trust` are null where they do not apply."""
        return {
            "id": self.id,
            "model": self.model,
            "metric": self.metric,
            "budget": self.budget.as_json() if self.budget else None,
            "value": self.value.as_json(),
            "trust": self.trust.as_json() if self.trust else None,
            "stage": self.stage,
            "replay": self.replay,
            "protocol": self.protocol,
            "condition": self.condition,
            "trigger": self.trigger,
            "made_for": self.made_for,
            "drawn": self.drawn,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredQuantity:
    """One measured quantity of one model: the entry of `quantities`; attributes as of `Measurement` and `Quantity`."""

    id: str
    model: str
    metric: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str = ""
    stage: str
    replay: str = ""
    budget: PerturbationBudget | None = None
    trust: Trust | None = None

    @property
    def quantity(self) -> Quantity:
        """The number alone, e.g. for the cell of a table."""
        return Quantity(self.value, self.unit, self.low, self.high, self.n, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredChoice:
    """One verdict in words on one model: the entry of `choices`; attributes as of `Measurement` and `Choice`."""

    id: str
    model: str
    metric: str
    value: str
    allowed: tuple[str, ...]
    stage: str
    replay: str = ""
    trust: Trust | None = None

    @property
    def choice(self) -> Choice:
        """The word alone, e.g. for the cell of a table."""
        return Choice(self.value, self.allowed)


def at_the_budget(measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """`measurements` without the points of a security curve."""
    return tuple(entry for entry in measurements if entry.condition != CURVE)
