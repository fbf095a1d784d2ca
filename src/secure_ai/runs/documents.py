"""Writes the named files of a run; each is a copy of what the store or the report holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secure_ai.core.errors import SecureAIError
from secure_ai.core.events import EventLog
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_beneath
from secure_ai.files.write import make_folder, write_bytes
from secure_ai.report.model import Report, parse_report, report_bytes
from secure_ai.report.render.html import render_html
from secure_ai.report.render.sarif import render_sarif
from secure_ai.report.render.threat_model import render_threat_model
from secure_ai.runs.assemble import MODEL_FILES, ROLES, RunFacts, values_of
from secure_ai.runs.metrics_files import metrics_files
from secure_ai.runs.pictures import pictures
from secure_ai.runs.pictures_attacks import attack_pictures

MAX_RUN_JSON_BYTES = 16 * MIB


def write_documents(folder: Path, facts: RunFacts, report: Mapping[str, Any], events: EventLog) -> Report:
    """Write every output file of the run, `run.json` last: it lists all others with their digests."""
    typed = parse_report(_pretty(report), "report.json")
    values = values_of(facts)
    images = pictures(values, _histories(facts), facts.context.store)
    images |= attack_pictures(facts.results(), facts.output, facts.context.store)
    files = {
        **_metrics(facts, report, values),
        **{f"images/{name}.png": content for name, content in images.items()},
        **_models(facts),
        **_audit(facts),
        "threat_model.md": render_threat_model(typed).encode(),
        "report.json": report_bytes(typed),
        "findings.sarif": _pretty(render_sarif(typed)),
        "report.html": render_html(typed, images).encode(),
    }
    _remove_outdated(folder, files)
    for name, content in files.items():
        make_folder((folder / name).parent)
        write_bytes(folder / name, content)
    events("run_reported", {"run": report["run"]["id"], "complete": report["run"]["complete"], "files": len(files)})
    write_bytes(folder / "run.json", _pretty(_run_json(facts, report, files, events)))
    return typed


def _pretty(content: Any) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _histories(facts: RunFacts) -> dict[str, dict[str, list[float]]]:
    found = {stage: facts.output(stage, "history.json") for stage in ROLES}
    return {stage: json.loads(content) for stage, content in found.items() if content is not None}


def _metrics(facts: RunFacts, report: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, bytes]:
    trust = {entry["id"]: entry["trust"] for entry in report["measurements"]}
    files = metrics_files(values, trust, facts.recipe.report_1)
    return {f"metrics/{name}": _pretty(content) for name, content in files.items()}


def _models(facts: RunFacts) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for stage, name in MODEL_FILES.items():
        content = facts.output(stage, "model.safetensors")
        if content is not None:
            files[f"models/{name}.safetensors"] = content
    record = facts.finished.records.get("report-1/keras")
    for name in record.outputs if record else ():
        files[f"models/{name}"] = facts.output("report-1/keras", name) or b""
    return files


def _audit(facts: RunFacts) -> dict[str, bytes]:
    found = {name: facts.output("audit/code", name) for name in ("bandit.txt", "bandit.json")}
    return {name: content for name, content in found.items() if content is not None}


def _run_json(
    facts: RunFacts, report: Mapping[str, Any], files: Mapping[str, bytes], events: EventLog
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "run": report["run"],
        "recipe": facts.recipe.model_dump(),
        "user_model": facts.model.as_json() if facts.model else None,
        "data": report["data"],
        "models": report["models"],
        "precision": facts.context.precision,
        "stages": {stage: {"outputs": dict(record.outputs)} for stage, record in facts.finished.records.items()},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        "events": {"records": events.state.records, "digest": events.state.digest},
    }


def _remove_outdated(folder: Path, files: Mapping[str, bytes]) -> None:
    """Files of an earlier run that this one does not write: removed if nobody has changed them since."""
    if not (folder / "run.json").exists():
        return
    try:
        content = parse_json(
            read_beneath(folder, "run.json", max_bytes=MAX_RUN_JSON_BYTES).content,
            where="run.json",
            max_bytes=MAX_RUN_JSON_BYTES,
        )
        earlier = dict(content["files"])
    except (SecureAIError, KeyError, TypeError, ValueError):
        return
    for name, digest in earlier.items():
        if name in files:
            continue
        try:
            same = read_beneath(folder, str(name), max_bytes=1024 * MIB).sha256 == digest
        except SecureAIError:
            continue
        if same:
            (folder / name).unlink()
