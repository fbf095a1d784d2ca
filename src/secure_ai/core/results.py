"""The values that results are made of: rates with their evidence, and measurements of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.statistics import wilson
from secure_ai.core.trust import Trust

SCHEMA_VERSION = 1
CURVE_STAGE = "assess/curve"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of samples with its 95 % Wilson interval: `R` in the output contract.

    The interval covers these images and this one model; it says nothing of other training seeds.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    successes: int
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """`{"value", "ci_low", "ci_high", "n", "successes"}`, and `reason` where there is no value."""
        content: dict[str, Any] = {
            "value": self.value,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "n": self.n,
            "successes": self.successes,
        }
        return content | ({"reason": self.reason} if self.reason else {})

    def __str__(self) -> str:
        """E.g. `5.90 % [5.45, 6.38], n = 10000`."""
        if self.value is None or self.ci_low is None or self.ci_high is None:
            return f"none ({self.reason})"
        return f"{100 * self.value:.2f} % [{100 * self.ci_low:.2f}, {100 * self.ci_high:.2f}], n = {self.n}"


def rate(successes: int, n: int) -> Rate:
    """`successes` of `n` with its interval. Raises EmptyDenominatorError when n is 0."""
    low, high = wilson(successes, n)
    return Rate(successes / n, low, high, n, successes)


def rate_or_reason(successes: int, n: int, reason: str) -> Rate:
    """A rate, or where n is 0 a rate without a value that says why."""
    return rate(successes, n) if n else Rate(None, None, None, 0, 0, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured rate of one model: the entry of `measurements` in report.json.

    Attributes:
        id: unique in the report, e.g. `report-1/defended-p/pgd`.
        model: id of an entry of `models`.
        metric: a glossary name, e.g. `robust_accuracy`.
        protocol: how it was measured, one sentence.
        stage: the stage that measured it.
        replay: the command that measures it again.
    """

    id: str
    model: str
    metric: str
    value: Rate
    protocol: str
    stage: str
    replay: str
    budget: PerturbationBudget | None = None
    trust: Trust | None = None

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
        }


def at_the_budget(measurements: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Entries of report.json without the points of a security curve, whose budgets are not the one asked for."""
    return [entry for entry in measurements if entry["stage"] != CURVE_STAGE]
