"""What a run left for a replay, read as hostile content: every file against a digest, every value against its type."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from secure_ai.core.errors import DigestMismatchError, FormatError, ReplayError, UsageError
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_beneath
from secure_ai.report.model import MAX_REPORT_BYTES, report_bytes
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.verbs.report import read_report

MAX_RESULT_BYTES = 64 * MIB
MAX_MODEL_BYTES = 1024 * MIB
MAX_SHARDS = 100_000

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AttackRecord(_Strict):
    """One attack of the suite, its settings resolved."""

    name: Annotated[str, Field(pattern=r"^(art:[A-Za-z0-9]{1,60}|[a-z0-9-]{1,64})$")]
    settings: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")], int | float | bool | str]


class DataRecord(_Strict):
    """What was attacked: the digest of the images and labels, and how many they were."""

    role: Literal["test"]
    digest: Sha256
    n: int = Field(ge=1)


class ReplayRecord(_Strict):
    """An entry of `replays` in a stage's result, as `robustness.replay_record` writes it."""

    attacks: list[AttackRecord] = Field(min_length=1, max_length=100)
    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float = Field(ge=0, allow_inf_nan=False)
    seed: int = Field(ge=0, le=2**63 - 1)
    independent: bool
    model_digest: Sha256
    data: DataRecord
    threads: int = Field(ge=1, le=256)
    shard_size: int = Field(ge=1)
    shards: list[Sha256] = Field(min_length=1, max_length=MAX_SHARDS)
    robust: int = Field(ge=0)
    example: int | None = Field(ge=0)


@dataclass(frozen=True, slots=True, eq=False)
class RunFolder:
    """A finished run: its report and run.json, parsed and checked against each other."""

    folder: Path
    report: Mapping[str, Any]
    run: Mapping[str, Any]
    recipe: Recipe

    def file(self, name: str) -> bytes:
        """A named output file, which must be the one that run.json lists."""
        expected = self.run["files"].get(name)
        if not isinstance(expected, str):
            raise ReplayError("the run lists no such file", where="run.json", expected=name)
        return self._checked(name, expected)

    def result(self, stage: str) -> Mapping[str, Any]:
        """`result.json` of a stage, from the run's store."""
        stages = self.run.get("stages")
        entry = stages.get(stage) if isinstance(stages, dict) else None
        outputs = entry.get("outputs") if isinstance(entry, dict) else None
        digest = outputs.get("result.json") if isinstance(outputs, dict) else None
        if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ReplayError(
                "the run does not say where that stage's result is",
                where="run.json: stages",
                expected=f"the digest of {stage}'s result.json",
                hint="runs of an earlier version kept no record for a replay",
            )
        name = f".store/objects/{digest[:2]}/{digest}"
        content = parse_json(self._checked(name, digest), where=name, max_bytes=MAX_RESULT_BYTES)
        if not isinstance(content, dict):
            raise FormatError("not a stage's result", where=name, expected="an object")
        return content

    def _checked(self, name: str, expected: str) -> bytes:
        file = read_beneath(self.folder, name, max_bytes=MAX_MODEL_BYTES)
        if (actual := hashlib.sha256(file.content).hexdigest()) != expected:
            raise DigestMismatchError("not the file that the run wrote", where=name, expected=expected, got=actual)
        return file.content


def read_run(folder: Path) -> RunFolder:
    """A run's folder.

    Raises:
        FormatError: run.json or report.json is not what a run writes.
        DigestMismatchError: report.json is not the one that run.json lists.
        SecureAIError: a file cannot be read.
    """
    report = json.loads(report_bytes(read_report(folder)))
    content = parse_json(read_beneath(folder, "run.json", max_bytes=MAX_REPORT_BYTES).content, where="run.json")
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise FormatError("not a run's record", where="run.json", expected="the digests of all files")
    try:
        recipe = Recipe.model_validate(content.get("recipe"))
    except ValidationError as error:
        raise _refused(error, "run.json: recipe") from None
    return RunFolder(folder, report, content, recipe)


def replay_record(run: RunFolder, measurement: Mapping[str, Any]) -> ReplayRecord:
    """What is needed to make the examples behind a measurement again.

    Raises:
        ReplayError: it is no measurement under a suite of attacks; the hint is the command that measures it again.
        FormatError: the record is not what a run writes.
    """
    identifier = str(measurement["id"])
    replays = run.result(str(measurement["stage"])).get("replays", {})
    if not isinstance(replays, dict) or identifier not in replays:
        raise no_replay(identifier, str(measurement["metric"]), str(measurement["replay"]))
    try:
        return ReplayRecord.model_validate(replays[identifier])
    except ValidationError as error:
        raise _refused(error, f"the replay record of {identifier}") from None


def no_replay(identifier: str, what: str, command: str) -> ReplayError:
    """The answer for what has no adversarial example behind it."""
    return ReplayError(
        "no adversarial example stands behind this, so there is none to replay",
        where=identifier,
        expected="a robust accuracy under a suite of attacks",
        got=what,
        hint=f"measure it again: {command}" if command else "run the recipe again",
    )


def _refused(error: ValidationError, where: str) -> FormatError:
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return FormatError(
        "not what a run writes", where=f"{where}, {key}", expected=first["msg"], got=repr(first["input"])
    )


def find_measurement(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The measurement of that id, or the one behind the finding `ID` or `ID@LOCATION`.

    Raises:
        UsageError: no such id, or several findings of one id.
        ReplayError: a finding that no measurement stands behind.
    """
    by_id: dict[str, Mapping[str, Any]] = {str(entry["id"]): entry for entry in report["measurements"]}
    if name in by_id:
        return by_id[name]
    identifier, at, location = name.partition("@")
    found = [f for f in report["findings"] if f["id"] == identifier and (not at or f["location"] == location)]
    if not found:
        known = sorted({f"{f['id']}@{f['location']}" for f in report["findings"]})
        raise UsageError(
            "no such finding or measurement",
            where="FINDING",
            expected=", ".join(known[:5]) or "the id of a measurement",
            got=name,
            hint="secure-ai report RUN lists both",
        )
    if len(found) > 1:
        places = [f"{f['id']}@{f['location']}" for f in found]
        raise UsageError("several findings have that id", where="FINDING", expected=", ".join(places[:8]), got=name)
    evidence = found[0]["evidence"]
    behind = evidence.get("measurement", evidence.get("lowest"))
    if not isinstance(behind, str) or behind not in by_id:
        raise no_replay(name, "a finding of another kind", str(found[0]["reproduce"]))
    return by_id[behind]
