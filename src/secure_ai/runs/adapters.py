"""What stages still put out as JSON, as the values that rules take; gone once stages return `core.result.Result`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from secure_ai.core.findings import Finding
from secure_ai.core.result import Model
from secure_ai.core.results import Measurement

_MEASUREMENTS = TypeAdapter(tuple[Measurement, ...])
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


def json_of(values: Iterable[object]) -> list[dict[str, Any]]:
    """Dataclasses as the entries of a list of report.json."""
    return [TypeAdapter(type(value)).dump_python(value, mode="json") for value in values]


def _twin(entry: Mapping[str, Any]) -> str:
    built_in = entry["role"] in ("defended", "poisoned")
    return f"{entry['id'].rpartition('/')[0]}/baseline" if built_in else ""
