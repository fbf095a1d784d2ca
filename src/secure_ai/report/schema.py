"""The JSON Schema of report.json, and the check that a file read from elsewhere keeps to it.

A report may come from anyone. `check_report` refuses one that breaks the schema before a renderer meets it; it knows
exactly the schema words that `schema.json` uses, and refuses to start on any other.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from secure_ai.core.errors import FormatError

MAX_ITEMS = 100_000  # of one list
_ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description"}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def load_schema() -> dict[str, Any]:
    """The schema of report.json, version 1 (JSON Schema 2020-12)."""
    text = importlib.resources.files("secure_ai.report").joinpath("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def _schema() -> dict[str, Any]:
    return load_schema()


def check_report(report: Any, *, where: str) -> dict[str, Any]:
    """`report` itself, once it keeps to the schema.

    Args:
        report: parsed JSON.
        where: named in errors.

    Raises:
        FormatError: it does not; the message names the place of the first breach.
    """
    schema = _schema()
    for place, expected, got in (*_breaches(report, schema, schema["$defs"], ""), *_ragged(report)):
        raise FormatError(
            "not a report of this version", where=f"{where}: {place or 'the whole'}", expected=expected, got=got
        )
    found: dict[str, Any] = report
    return found


Breach = tuple[str, str, str]


def _ragged(report: Any) -> Iterator[Breach]:
    """Matrices that are not square, which no schema word can say; asked only once the schema holds."""
    matrices = report.get("confusions") if isinstance(report, dict) else None
    for index, entry in enumerate(matrices if isinstance(matrices, list) else ()):
        counts = entry.get("counts") if isinstance(entry, dict) else None
        if isinstance(counts, list) and any(not isinstance(row, list) or len(row) != len(counts) for row in counts):
            yield f"confusions[{index}].counts", "as many columns as rows", "another number"
    transfers = report.get("transfers") if isinstance(report, dict) else None
    for index, entry in enumerate(transfers if isinstance(transfers, list) else ()):
        networks, rates = len(entry["networks"]), entry["rates"]  # both are lists by the schema
        if len(rates) != networks or any(len(row) != networks for row in rates):
            yield f"transfers[{index}].rates", "a row and a column a network", "another number"


def _breaches(value: Any, schema: Mapping[str, Any], defs: Mapping[str, Any], place: str) -> Iterator[Breach]:
    """(place, expected, got) of everything in `value` that breaks `schema`, in reading order."""
    if "$ref" in schema:
        yield from _breaches(value, defs[schema["$ref"].removeprefix("#/$defs/")], defs, place)
        return
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(_is_a(value, name) for name in names):
        yield place, " or ".join(names), type(value).__name__
        return
    for word, rule in schema.items():
        yield from _WORDS[word](value, rule, schema, defs, place) if word not in _ANNOTATIONS else ()


def _is_a(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _required(value: Any, rule: Any, schema: Any, defs: Any, place: str) -> Iterator[Breach]:
    missing = [name for name in rule if name not in value] if isinstance(value, dict) else []
    if missing:
        yield place, f"the key {missing[0]}", "none"


def _properties(value: Any, rule: Any, schema: Any, defs: Any, place: str) -> Iterator[Breach]:
    for name, inner in rule.items() if isinstance(value, dict) else ():
        if name in value:
            yield from _breaches(value[name], inner, defs, f"{place}.{name}".lstrip("."))


def _other_properties(value: Any, rule: Any, schema: Any, defs: Any, place: str) -> Iterator[Breach]:
    for name in value if isinstance(value, dict) else ():
        if name not in schema.get("properties", {}):
            yield from _breaches(value[name], rule, defs, f"{place}.{name}".lstrip("."))


def _items(value: Any, rule: Any, schema: Any, defs: Any, place: str) -> Iterator[Breach]:
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        yield place, f"at most {MAX_ITEMS} items", str(len(value))
        return
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from _breaches(item, rule, defs, f"{place}[{index}]")


def _bound(value: Any, ok: bool, expected: str, place: str) -> Iterator[Breach]:
    if not ok:
        yield place, expected, str(value)


def _conditional(value: Any, rule: Any, schema: Any, defs: Any, place: str) -> Iterator[Breach]:
    holds = next(_breaches(value, rule, defs, place), None) is None
    yield from _breaches(value, schema.get("then" if holds else "else", {}), defs, place)


def _number(value: Any) -> bool:
    return _is_a(value, "number")


_WORDS: dict[str, Any] = {
    "type": lambda *_: (),
    "required": _required,
    "properties": _properties,
    "additionalProperties": _other_properties,
    "items": _items,
    "if": _conditional,
    "then": lambda *_: (),
    "else": lambda *_: (),
    "const": lambda v, rule, s, d, p: _bound(v, v == rule and not isinstance(v, bool), str(rule), p),
    "enum": lambda v, rule, s, d, p: _bound(v, v in rule, " or ".join(map(str, rule)), p),
    "minimum": lambda v, rule, s, d, p: _bound(v, not _number(v) or v >= rule, f">= {rule}", p),
    "maximum": lambda v, rule, s, d, p: _bound(v, not _number(v) or v <= rule, f"<= {rule}", p),
    "minLength": lambda v, rule, s, d, p: _bound(v, not isinstance(v, str) or len(v) >= rule, "some text", p),
    "minItems": lambda v, rule, s, d, p: _bound(v, not isinstance(v, list) or len(v) >= rule, f">= {rule} items", p),
    "pattern": lambda v, rule, s, d, p: _bound(v, not isinstance(v, str) or bool(re.search(rule, v)), rule, p),
}
