"""Writes the named files of a run; each is a copy of what the store or the report holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from secure_ai.core.errors import SecureAIError
from secure_ai.core.events import EventLog
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.core.sections import picture_file
from secure_ai.data.image_digests import image_digests
from secure_ai.data.training_record import RECORD_MODE, RECORD_SUFFIX, training_record
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_beneath
from secure_ai.files.write import write_beneath
from secure_ai.report.model import Report, report_bytes
from secure_ai.report.render.html import render_html
from secure_ai.report.render.sarif import render_sarif
from secure_ai.report.render.threat_model import render_threat_model
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.engine.result_file import FACTS_NAME, MODEL_NAME
from secure_ai.runs.outputs.assemble import assemble
from secure_ai.runs.outputs.facts import RunFacts
from secure_ai.runs.outputs.pictures import pictures

MAX_RUN_JSON_BYTES = 16 * MIB
KEPT = "files/"  # an output of a stage with this prefix is copied into the run's folder


def write_documents(folder: Path, facts: RunFacts, report: Report, events: EventLog) -> None:
    """Write every output file of the run, `run.json` last: it lists all others with their digests."""
    images = pictures(facts)
    files = {
        **{name: content for case in CASES for name, content in case.files(facts.result, facts.recipe).items()},
        **{picture_file(name): content for name, content in images.items()},
        **_models(facts),
        **_training_records(facts),
        **_kept_files(facts),
        "threat_model.md": render_threat_model(report).encode(),
        "report.json": report_bytes(report),
        "findings.sarif": _pretty(render_sarif(report)),
        "report.html": render_html(report, images).encode(),
    }
    _remove_outdated(folder, files)
    for name, content in files.items():
        write_beneath(folder, name, content, mode=RECORD_MODE if name.endswith(RECORD_SUFFIX) else 0o644)
    events("run_reported", {"run": report.run.id, "complete": report.run.complete, "files": len(files)})
    write_beneath(folder, "run.json", _pretty(_run_json(facts, report, files, events)))


def write_early_page(folder: Path, facts: RunFacts) -> None:
    """Replace report.html by one of what is known so far; it says that the run is not complete."""
    write_beneath(folder, "report.html", render_html(assemble(facts), pictures(facts)).encode())


def _pretty(content: Any) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _models(facts: RunFacts) -> dict[str, bytes]:
    found = {network: facts.output(network.id, MODEL_NAME) for network in facts.plan.networks.values() if network.file}
    return {f"models/{network.file}.safetensors": content for network, content in found.items() if content is not None}


def _training_records(facts: RunFacts) -> dict[str, bytes]:
    """Beside every model file: which images it was trained on, readable by the user alone."""
    networks = [network for network in facts.plan.networks.values() if network.file]
    said = {network.file: facts.output(network.id, FACTS_NAME) for network in networks}
    if "train" not in facts.data or not any(said.values()):
        return {}
    train = facts.data["train"]
    digests = image_digests(train.images)
    return {
        f"models/{file}.safetensors{RECORD_SUFFIX}": training_record(json.loads(content)["digest"], train, digests)
        for file, content in said.items()
        if content is not None
    }


def _kept_files(facts: RunFacts) -> dict[str, bytes]:
    """What stages kept for the run's folder. A record may have been altered: no name leads out of the folder."""
    found: dict[str, bytes] = {}
    for stage, record in facts.finished.records.items():
        for name in record.outputs:
            path = PurePosixPath(name.removeprefix(KEPT))
            if name.startswith(KEPT) and not path.is_absolute() and ".." not in path.parts:
                found[str(path)] = facts.output(stage, name) or b""
    return found


def _run_json(facts: RunFacts, report: Report, files: Mapping[str, bytes], events: EventLog) -> dict[str, Any]:
    written = json.loads(files["report.json"])
    return {
        "schema_version": SCHEMA_VERSION,
        "run": written["run"],
        "recipe": facts.recipe.model_dump(),
        "user_model": facts.model.as_json() if facts.model else None,
        "data": written["data"],
        "models": written["models"],
        "device": facts.execution.device_name,
        "precision": facts.execution.precision,
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
