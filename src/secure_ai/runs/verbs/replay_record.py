"""What a run left for a replay, read as hostile content: files against digests, values against limits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from secure_ai.core.errors import DigestMismatchError, FormatError, ReplayError, UsageError
from secure_ai.core.findings import Finding
from secure_ai.core.result import Replay
from secure_ai.core.results import Measurement
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_beneath
from secure_ai.report.model import MAX_REPORT_BYTES, Report
from secure_ai.runs.engine.result_file import RESULT_NAME, read_result
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.verbs.report import read_report

MAX_MODEL_BYTES = 1024 * MIB
MAX_SHARDS = 100_000
MAX_THREADS = 256
MAX_ATTACKS = 100
MAX_TEXT = 2000  # characters of one attack

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class RunFolder:
    """A finished run: its report and run.json, parsed and checked against each other."""

    folder: Path
    report: Report
    run: Mapping[str, Any]
    recipe: Recipe

    def file(self, name: str) -> bytes:
        """A named output file, which must be the one that run.json lists."""
        expected = self.run["files"].get(name)
        if not isinstance(expected, str):
            raise ReplayError("the run lists no such file", where="run.json", expected=name)
        return self._checked(name, expected)

    def replays(self, stage: str) -> Mapping[str, Replay]:
        """The replay records of a stage by measurement, from the run's store."""
        stages = self.run.get("stages")
        entry = stages.get(stage) if isinstance(stages, dict) else None
        outputs = entry.get("outputs") if isinstance(entry, dict) else None
        digest = outputs.get(RESULT_NAME) if isinstance(outputs, dict) else None
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ReplayError(
                "the run does not say where that stage's result is",
                where="run.json: stages",
                expected=f"the digest of {stage}'s {RESULT_NAME}",
                hint="runs of an earlier version kept no record for a replay",
            )
        name = f".store/objects/{digest[:2]}/{digest}"
        return {record.id: record for record in read_result(self._checked(name, digest), name).replays}

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
    report = read_report(folder)
    content = parse_json(read_beneath(folder, "run.json", max_bytes=MAX_REPORT_BYTES).content, where="run.json")
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise FormatError("not a run's record", where="run.json", expected="the digests of all files")
    try:
        recipe = Recipe.model_validate(content.get("recipe"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise FormatError(
            "not what a run writes", where=f"run.json: recipe, {key}", expected=first["msg"], got=repr(first["input"])
        ) from None
    return RunFolder(folder, report, content, recipe)


def replay_record(run: RunFolder, measurement: Measurement) -> Replay:
    """What is needed to make the examples behind a measurement again.

    Raises:
        ReplayError: it is no measurement under a suite of attacks; the hint is the command that measures it again.
        FormatError: the record is not what a run writes.
    """
    record = run.replays(measurement.stage).get(measurement.id)
    if record is None:
        raise no_replay(measurement.id, measurement.metric, measurement.replay)
    limits = (
        ("attacks", 1 <= len(record.attacks) <= MAX_ATTACKS, f"1 to {MAX_ATTACKS}"),
        ("attacks", all(len(text) <= MAX_TEXT and "," not in text for text in record.attacks), "one attack a text"),
        ("seed", 0 <= record.seed < 2**63, "0 to 2^63 - 1"),
        ("threads", 1 <= record.threads <= MAX_THREADS, f"1 to {MAX_THREADS}"),
        ("shard_size", record.shard_size >= 1, "at least 1"),
        ("shards", 1 <= len(record.shards) <= MAX_SHARDS, f"1 to {MAX_SHARDS}"),
        ("shards", all(_SHA256.fullmatch(digest) for digest in record.shards), "SHA-256 digests"),
        ("n", record.n >= 1, "at least 1"),
        ("data_digest", bool(_SHA256.fullmatch(record.data_digest)), "a SHA-256 digest"),
        ("example", record.example is None or record.example >= 0, "a position, or null"),
    )
    for field, holds, expected in limits:
        if not holds:
            raise FormatError(
                "not what a run writes", where=f"the replay record of {record.id}, {field}", expected=expected
            )
    return record


def no_replay(identifier: str, what: str, command: str) -> ReplayError:
    """The answer for what has no adversarial example behind it."""
    return ReplayError(
        "no adversarial example stands behind this, so there is none to replay",
        where=identifier,
        expected="a robust accuracy under a suite of attacks",
        got=what,
        hint=f"measure it again: {command}" if command else "run the recipe again",
    )


def find_measurement(report: Report, name: str) -> Measurement:
    """The measurement of that id, or the one behind the finding `ID` or `ID@LOCATION`.

    Raises:
        UsageError: no such id, or several findings of one id.
        ReplayError: a finding that no measurement stands behind.
    """
    by_id = {entry.id: entry for entry in report.measurements}
    if name in by_id:
        return by_id[name]
    identifier, at, location = name.partition("@")
    found = [f for f in report.findings if f.id == identifier and (not at or f.location == location)]
    if not found:
        raise UsageError(
            "no such finding or measurement",
            where="FINDING",
            expected=", ".join(sorted(map(_name, report.findings))[:5]) or "the id of a measurement",
            got=name,
            hint="secure-ai report RUN lists both",
        )
    if len(found) > 1:
        raise UsageError(
            "several findings have that id", where="FINDING", expected=", ".join(map(_name, found[:8])), got=name
        )
    evidence = found[0].evidence
    behind = evidence.get("measurement", evidence.get("lowest"))
    if not isinstance(behind, str) or behind not in by_id:
        raise no_replay(name, "a finding of another kind", found[0].reproduce)
    return by_id[behind]


def _name(finding: Finding) -> str:
    return f"{finding.id}@{finding.location}"
