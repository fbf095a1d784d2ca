"""What a measuring stage found, on its way into `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import Measurement, Rate
from secure_ai.core.trust import Trust, judge, sample_size_check
from secure_ai.runs.comparisons import pack
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.stage import Outputs


@dataclass(slots=True)
class Collected:
    """What a measuring stage found: measurements for the report, and plain values for tables and report 1's files."""

    stage: str
    model: str
    measurements: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    replays: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[str, Any] = field(default_factory=dict)

    def rate(
        self,
        name: str,
        metric: str,
        value: Rate,
        protocol: str,
        *,
        budget: PerturbationBudget | None = None,
        trust: Trust | None = None,
        right: np.ndarray | None = None,
        trigger: str = "",
        made_for: str = "",
    ) -> None:
        """Add one rate; without a trust verdict of its own, its sample size decides.

        Args:
            right: (N,) bool, who counted as right among all test images: for comparisons on the same images.
        """
        measurement = Measurement(
            id=f"{self.model}/{name}",
            model=self.model,
            metric=metric,
            value=value,
            protocol=protocol,
            stage=self.stage,
            replay="",  # the report knows the command
            budget=budget,
            trust=trust or judge([sample_size_check(value.n)], breaking=frozenset()),
            condition=name,
            trigger=trigger,
            made_for=made_for,
        )
        self.measurements.append(measurement.as_json())
        self.values[measurement.id] = value.as_json()
        if right is not None:
            self.outcomes[measurement.id] = pack(right)

    def value(self, name: str, value: Any) -> None:
        """Add a number, or a list such as a confusion matrix."""
        self.values[f"{self.model}/{name}"] = value

    def replay_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Keep what `secure-ai replay` needs to make the examples behind the measurement `name` again."""
        self.replays[f"{self.model}/{name}"] = dict(record)

    def outputs(self, more: Mapping[str, bytes] | None = None) -> Outputs:
        """`result.json`, and whatever else the stage puts out."""
        content = {"measurements": self.measurements, "values": self.values, "replays": self.replays}
        if self.outcomes:
            content["outcomes"] = self.outcomes
        return {"result.json": json_bytes(content), **(more or {})}
