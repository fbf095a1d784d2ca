"""What stages still put out as JSON, as the values that rules take; gone once stages return `core.result.Result`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from secure_ai.core.comparisons import Confusion
from secure_ai.core.findings import Finding
from secure_ai.core.result import Model, Result
from secure_ai.core.results import MeasuredQuantity, Measurement

_MEASUREMENTS = TypeAdapter(tuple[Measurement, ...])
_MEASUREMENT = TypeAdapter(Measurement)
_CONFUSION = TypeAdapter(Confusion)
_MODELS = TypeAdapter(tuple[Model, ...])
_FINDINGS = TypeAdapter(tuple[Finding, ...])


def measurements_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Measurement, ...]:
    """Entries of `measurements` of report.json, typed."""
    return _MEASUREMENTS.validate_python(tuple(entries))


def models_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Model, ...]:
    """Entries of `models`, typed; the clean twin of a network of a report is that report's baseline."""
    return _MODELS.validate_python(tuple({**entry, "against": _twin(entry)} for entry in entries))


def findings_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """Entries of `findings`, typed."""
    return _FINDINGS.validate_python(tuple(entries))


def values_from_measurements(measurements: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The rates of entries of `measurements` as `{id: R}`, each with its `trust`."""
    return {str(entry["id"]): {**entry["value"], "trust": entry.get("trust")} for entry in measurements}


def result_of(values: Mapping[str, Any], measurements: Iterable[Mapping[str, Any]]) -> Result:
    """Measurements, and from the flat values the rates, numbers and confusion matrices beside them."""
    known = measurements_of(measurements)
    more = {name: value for name, value in values.items() if name not in {m.id for m in known}}
    return Result(
        measurements=(*known, *(_rate(name, value) for name, value in more.items() if _is_rate(value))),
        quantities=tuple(_number(name, value) for name, value in more.items() if isinstance(value, int | float)),
        confusions=tuple(_confusion(name, value) for name, value in more.items() if _is_matrix(value)),
    )


def _is_rate(value: object) -> bool:
    return isinstance(value, Mapping) and "ci_low" in value


def _rate(identifier: str, value: Mapping[str, Any]) -> Measurement:
    entry = {"id": identifier, "model": "", "metric": "", "stage": "", "replay": ""}
    return _MEASUREMENT.validate_python({**entry, "value": value, "trust": value.get("trust")})


def _number(identifier: str, value: float) -> MeasuredQuantity:
    return MeasuredQuantity(id=identifier, model="", metric="", value=float(value), unit="", stage="")


def _is_matrix(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, list) for row in value)


def _confusion(identifier: str, counts: Iterable[Any]) -> Confusion:
    return _CONFUSION.validate_python({"id": identifier, "model": "", "counts": counts})


def json_of(values: Iterable[object]) -> list[dict[str, Any]]:
    """Dataclasses as the entries of a list of report.json."""
    return [TypeAdapter(type(value)).dump_python(value, mode="json") for value in values]


def _twin(entry: Mapping[str, Any]) -> str:
    built_in = entry["role"] in ("defended", "poisoned")
    return f"{entry['id'].rpartition('/')[0]}/baseline" if built_in else ""
