"""What a type alone does not say of a report: ranges, patterns, shapes, ids that stand once; as data and one check.

`LIMITS` is written in words of JSON Schema, so that the check and `report/schema.json` say the same. Types go by name,
as in the schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

Words = Mapping[str, Any]
Breach = tuple[str, str, str]  # place, expected, got

SOME_TEXT: Words = {"minLength": 1}
SHA256: Words = {"pattern": "^[0-9a-f]{64}$"}
SECTION_ID: Words = {"pattern": "^[A-Za-z0-9_/-]+$"}
COUNT: Words = {"minimum": 0}
SOME: Words = {"minimum": 1}
SHARE: Words = {"minimum": 0, "maximum": 1}
DIFFERENCE: Words = {"minimum": -1, "maximum": 1}

# type -> field -> what its value, or each value in it, must keep to; None is no value
LIMITS: Mapping[str, Mapping[str, Words]] = {
    "Report": {"not_tested": SOME_TEXT},
    "Tool": {"version": SOME_TEXT},
    "Run": {"id": SOME_TEXT, "seconds": COUNT, "seed": COUNT, "stage_seconds": COUNT},
    "Model": {"id": SOME_TEXT, "digest": SHA256},
    "Data": {"id": SOME_TEXT, "digest": SHA256, "n": SOME},
    "Rate": {"value": SHARE, "ci_low": SHARE, "ci_high": SHARE, "n": COUNT, "successes": COUNT, "n_effective": SOME},
    "Quantity": {"n": COUNT},
    "PerturbationBudget": {"eps": COUNT},
    "Measurement": {"id": SOME_TEXT},
    "MeasuredQuantity": {"id": SOME_TEXT, "n": COUNT},
    "MeasuredChoice": {"id": SOME_TEXT},
    "OurValue": {"n": SOME},
    "Figure": {"reason": SOME_TEXT},
    "Finding": {"id": SOME_TEXT},
    "Threat": {"id": SOME_TEXT, "reason": SOME_TEXT},
    "Confusion": {"counts": COUNT},
    "Comparison": {
        "card": SOME_TEXT, "before": SOME_TEXT, "after": SOME_TEXT,
        "n": SOME, "only_before": COUNT, "only_after": COUNT,
        "difference": DIFFERENCE, "ci_low": DIFFERENCE, "ci_high": DIFFERENCE, "p": SHARE, "p_holm": SHARE,
    },
    "Transfer": {"id": SOME_TEXT, "networks": SOME_TEXT, "n": SOME},
    "Distance": {"id": SOME_TEXT, "n": SOME, "median": COUNT, "ci_low": COUNT, "ci_high": COUNT, "clean_errors": COUNT},
    "Section": {"id": SECTION_ID},
    "Column": {"id": SOME_TEXT},
    "Ref": {"id": SOME_TEXT},
}  # fmt: skip

_KEEPS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "pattern": lambda value, limit: re.fullmatch(limit, value) is not None,
}
_UNIQUE = ("models", "data", "measurements", "quantities", "choices", "sections", "threats", "confusions", "transfers",
           "distances")  # fmt: skip


def breaches(report: object) -> Iterator[Breach]:
    """Place, expected and got of everything in `report` that breaks a limit, in reading order."""
    for place, value in _parts(report, ""):
        name = type(value).__name__
        for field, words in LIMITS.get(name, {}).items():
            for item in _leaves(getattr(value, field)):
                broken = [f"{word} {limit}" for word, limit in words.items() if not _KEEPS[word](item, limit)]
                if broken:
                    yield _at(place, field), broken[0], str(item)
        for field, expected, got in _SHAPES.get(name, _no_breach)(value):
            yield _at(place, field), expected, got


def too_long(content: Any, most: int) -> bool:
    """Whether a list or an object anywhere in parsed JSON has more than `most` items."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | dict):
            if len(value) > most:
                return True
            waiting += value.values() if isinstance(value, dict) else value
    return False


def _parts(value: object, place: str) -> Iterator[tuple[str, object]]:
    """Every dataclass in `value`, itself included, with its place."""
    if is_dataclass(value):
        yield place, value
        for field in fields(value):
            yield from _parts(getattr(value, field.name), _at(place, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _parts(item, f"{place}[{index}]")


def _at(place: str, field: str) -> str:
    return f"{place}.{field}".strip(".")


def _leaves(value: Any) -> Iterator[Any]:
    """`value`, or every value in it at any depth; None is left out."""
    if isinstance(value, tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    elif value is not None:
        yield value


def _no_breach(value: Any) -> Iterator[Breach]:
    yield from ()


def _rate(value: Any) -> Iterator[Breach]:
    if value.value is None:
        yield from _reason(value)
    elif value.n < 1:
        yield "n", "at least 1 where there is a value", str(value.n)
    elif value.successes > value.n:
        yield "successes", f"at most n, {value.n}", str(value.successes)
    elif value.n_effective is not None and value.n_effective >= value.n:
        yield "n_effective", f"fewer than n, {value.n}", str(value.n_effective)
    elif value.ci_low is None or value.ci_high is None:
        yield "ci_low" if value.ci_low is None else "ci_high", "a number where there is a value", "none"


def _reason(value: Any) -> Iterator[Breach]:
    if value.value is None and not value.reason:
        yield "reason", "why there is no value", "none"


def _choice(value: Any) -> Iterator[Breach]:
    if value.value not in value.allowed:
        yield "value", " or ".join(value.allowed), value.value


def _confusion(value: Any) -> Iterator[Breach]:
    size = len(value.counts)
    if size < 2 or any(len(row) != size for row in value.counts):
        yield "counts", "at least 2 rows, and as many columns", f"{size} rows"
    if len(value.class_names) > size:
        yield "class_names", f"at most {size} names", str(len(value.class_names))


def _transfer(value: Any) -> Iterator[Breach]:
    size = len(value.networks)
    if size < 1 or len(value.rates) != size or any(len(row) != size for row in value.rates):
        yield "rates", "a row and a column a network", f"{size} networks, {len(value.rates)} rows"


def _report(value: Any) -> Iterator[Breach]:
    for name in _UNIQUE:
        seen: set[str] = set()
        for index, entry in enumerate(getattr(value, name)):
            if entry.id in seen:
                yield f"{name}[{index}].id", "an id that stands once", entry.id
            seen.add(entry.id)


_SHAPES: Mapping[str, Callable[[Any], Iterator[Breach]]] = {
    "Report": _report,
    "Rate": _rate,
    "Quantity": _reason,
    "MeasuredQuantity": _reason,
    "Choice": _choice,
    "MeasuredChoice": _choice,
    "Confusion": _confusion,
    "Transfer": _transfer,
}
