"""`Report`: everything that a run found, as one typed value, and the only way from and to the bytes of report.json.

A report may come from anyone: size, depth and number of items are checked before anything is built, types by pydantic,
ranges by `report.limits`. Later versions add keys and never rename or remove one, so unknown keys are ignored.
"""

from __future__ import annotations

import enum
import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from secure_ai.core.comparisons import Comparison, Confusion, Distance, Transfer
from secure_ai.core.errors import FormatError, SecureAIError
from secure_ai.core.findings import Finding
from secure_ai.core.result import Model
from secure_ai.core.results import CURVE, MeasuredChoice, MeasuredQuantity, Measurement
from secure_ai.core.sections import Section
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB
from secure_ai.report.limits import LIMITS, breaches, too_long
from secure_ai.threats.model import Threat

MAX_REPORT_BYTES = 64 * MIB
MAX_ITEMS = 100_000  # of one list
MAX_SHOWN = 80  # characters of a refused value

FigureUnit = Literal["share", "loss", "seconds", "points", "ratio", "count", "text"]
Basis = Literal["measured", "read", "printed"]
TrustWord = Literal["", "doubtful", "broken", "indicative"]


class Holds(enum.StrEnum):
    """Does the published statement hold?"""

    YES = "yes"
    NO = "no"
    NOT_MEASURED = "not_measured"
    NOT_COMPARABLE = "not_comparable"  # a time of the authors' machine


class FigureStatus(enum.StrEnum):
    """How strong the evidence is: `wrong` is contradicted, `not_supported` merely has nothing behind it."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not_supported"
    WRONG = "wrong"
    NOT_MEASURED = "not_measured"
    NOT_COMPARABLE = "not_comparable"


@dataclass(frozen=True, slots=True)
class Tool:
    """The program that wrote the report."""

    name: Literal["secure-ai"]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What ran, where and for how long.

    Attributes:
        complete: false after an interruption: what is missing stands in `not_tested`.
        seconds: wall time.
        deviates: how the run departs from the reports' protocols; empty where it does not.
        reused: stages taken from an earlier run.
        foreign: stages done again because the record of an earlier run was not written with this user's key.
        key_note: why there is no such key, or why it is a new one; empty otherwise.
        code: version and digests of the code.
    """

    id: str
    recipe: str
    complete: bool
    seconds: float
    seed: int
    deviates: str = ""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    reused: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    key_note: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """One data set; `digest`: SHA-256 hex over images and labels; `class_names`: of its labels in their order."""

    id: str
    name: str = ""
    digest: str
    n: int
    note: str = ""
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedValue:
    """A figure or claim as it was published; `value` in base units, None for a claim in words."""

    text: str
    value: float | None
    unit: FigureUnit
    value_text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OurValue:
    """Our number beside a published one.

    Attributes:
        id: of the value.
        text: the number with its interval, n and trust word; `value_text`: the number alone.
        word: the trust word; empty where the number is reliable.
        condition: the attack, where it is not the report's own.
        ci_low, ci_high, n: where the number is a rate.
    """

    id: str
    value: float
    text: str
    value_text: str = ""
    word: TrustWord = ""
    condition: str = ""
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One published figure or claim against ours: the entry of `reproduction`.

    Attributes:
        figure: where it stands in `report`, e.g. `table-6/defended-fgsm`.
        headline: whether the report's conclusion rests on it.
        same_protocol: ours by the report's own protocol; `correct`: ours measured correctly.
        tolerance: why a re-trained network may differ; `tolerance_runs`: how many runs that spread was measured on; 0:
            it is reasoned, not measured.
        basis: what the judgement rests on: measurements of the run; counts that were `read` in the published program
            once and stand in this tool's source; or published numbers alone (`printed`).
    """

    report: str
    figure: str
    headline: bool = False
    published: PublishedValue
    same_protocol: OurValue | None
    correct: OurValue | None
    holds: Holds
    status: FigureStatus | None = None
    reason: str
    tolerance: str | None = None
    tolerance_runs: int | None = None
    basis: Basis = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The content of report.json, version 1; the order of the keys is the order here."""

    schema_version: Literal[1] = 1
    tool: Tool
    run: Run
    models: tuple[Model, ...]
    data: tuple[Data, ...]
    measurements: tuple[Measurement, ...]
    reproduction: tuple[Figure, ...]
    findings: tuple[Finding, ...]
    threats: tuple[Threat, ...]
    not_tested: tuple[str, ...]
    confusions: tuple[Confusion, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    distances: tuple[Distance, ...] = ()
    quantities: tuple[MeasuredQuantity, ...] = ()
    choices: tuple[MeasuredChoice, ...] = ()
    sections: tuple[Section, ...] = ()


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


@cache
def _reader() -> SchemaValidator:
    """Stops at the first wrong item of every list: a small file with many wrong items else costs minutes."""
    core_schema = deepcopy(_adapter().core_schema)
    waiting: list[Any] = [core_schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict) and node.get("type") in ("tuple", "list"):
            node["fail_fast"] = True
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return SchemaValidator(core_schema)


def schema() -> dict[str, Any]:
    """The JSON Schema of report.json, version 1, with the limits of `report.limits`; unknown keys are allowed."""
    content = _adapter().json_schema()
    for name, limits in LIMITS.items():
        properties = (content if name == "Report" else content["$defs"][name])["properties"]
        for place, words in limits.items():
            node = properties[place]
            while inner := node.get("items") or node.get("additionalProperties"):
                node = inner
            node.update(words)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:secure-ai:report:1", **content}


def parse_report(content: bytes, where: str) -> Report:
    """The report that the bytes of a report.json hold.

    Args:
        where: named in errors, e.g. `report.json`.

    Raises:
        JsonError: not strict JSON, too large or too deep.
        FormatError: not a report of this version; `where` names the place, e.g. `measurements[3].value.n`.
    """
    plain = parse_json(content, where=where, max_bytes=MAX_REPORT_BYTES)
    if too_long(plain, MAX_ITEMS):
        raise FormatError("a list or an object is too long", where=where, expected=f"at most {MAX_ITEMS} items")
    try:
        report: Report = _reader().validate_json(content, strict=True)
    except ValidationError as errors:
        first = errors.errors(include_url=False, include_input=False)[0]  # an input may be the whole report
        raise _refusal(where, _place(first["loc"]), first["msg"], _found(plain, first["loc"])) from None
    except SecureAIError as error:  # a value of core that refuses to be built
        raise _refusal(where, error.where, error.expected, error.got) from None
    for place, expected, got in breaches(report):
        raise _refusal(where, place, expected, got)
    return _with_conditions(report)


def report_bytes(report: Report) -> bytes:
    """The bytes of report.json: the same for the same report. Raises ValueError for a number that is not finite."""
    content = _adapter().dump_python(report, mode="json")
    return (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


OLD_CURVE_STAGE = "assess/curve"


def _with_conditions(report: Report) -> Report:
    """Reports of earlier versions name no condition: there it is the last part of a measurement's id."""
    named = (replace(m, condition=m.condition or _old_condition(m)) for m in report.measurements)
    return replace(report, measurements=tuple(named))


def _old_condition(m: Measurement) -> str:
    return CURVE if m.stage == OLD_CURVE_STAGE else m.id.rpartition("/")[2]


def _refusal(where: str, place: str, expected: str, got: str) -> FormatError:
    return FormatError(
        "not a report of this version", where=f"{where}: {place or 'the whole'}", expected=expected, got=got
    )


def _place(location: tuple[int | str, ...]) -> str:
    """E.g. `measurements[3].value.n`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _found(plain: Any, location: tuple[int | str, ...]) -> str:
    """What stands at `location` of parsed JSON, briefly; `nothing` where there is nothing."""
    for part in location:
        try:
            plain = plain[part]
        except (KeyError, IndexError, TypeError):
            return "nothing"
    return type(plain).__name__ if isinstance(plain, dict | list) else str(plain)[:MAX_SHOWN]
