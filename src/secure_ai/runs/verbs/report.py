"""The verbs that read a finished run: `report`, `threats show`. They read what the run wrote, never a model or data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from secure_ai.core.errors import DigestMismatchError, FormatError
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_beneath
from secure_ai.files.sniff import Format, sniff
from secure_ai.files.write import write_bytes
from secure_ai.report.consistency import refuse_inconsistent
from secure_ai.report.model import MAX_REPORT_BYTES, Report, parse_report, report_bytes
from secure_ai.report.render.html import render_html
from secure_ai.report.render.markdown import render_markdown
from secure_ai.report.render.sarif import render_sarif
from secure_ai.runs.cases.table import CASES
from secure_ai.threats.model import Threat
from secure_ai.threats.register import threat_rows

MAX_IMAGE_BYTES = 16 * MIB


def read_report(folder: str | Path) -> Report:
    """The `report.json` of a run's folder.

    Raises:
        FormatError: it is no report of this version, or contradicts itself.
        DigestMismatchError: it is not the one that run.json lists.
        SecureAIError: it cannot be read.
    """
    file = read_beneath(Path(folder), "report.json", max_bytes=MAX_REPORT_BYTES)
    expected = _recorded_digest(Path(folder))
    if expected is not None and expected != file.sha256:
        raise DigestMismatchError(
            "report.json is not the file that the run wrote", where=file.name, expected=expected, got=file.sha256
        )
    report = parse_report(file.content, file.name)
    refuse_inconsistent(report, file.name)
    return report


def is_verified(folder: Path) -> bool:
    """Whether `run.json` names the digest of the report in `folder`; without it any report is taken as it stands."""
    return _recorded_digest(folder) is not None


def _recorded_digest(folder: Path) -> str | None:
    """The digest of report.json by run.json; None where there is no run.json."""
    if not (folder / "run.json").exists():
        return None
    content = parse_json(read_beneath(folder, "run.json", max_bytes=MAX_REPORT_BYTES).content, where="run.json")
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not isinstance(files.get("report.json"), str):
        raise FormatError("not a run's record", where="run.json", expected="the digest of report.json")
    return str(files["report.json"])


def _images(folder: Path) -> dict[str, bytes]:
    images: dict[str, bytes] = {}
    for name in sorted(path.name for path in (folder / "images").glob("*.png")):
        content = read_beneath(folder, f"images/{name}", max_bytes=MAX_IMAGE_BYTES).content
        if (found := sniff(content)) is not Format.PNG:
            raise FormatError("not a picture of a run", where=f"images/{name}", expected="PNG", got=found)
        images[name.removesuffix(".png")] = content
    return images


def render_report(folder: str | Path, format: Literal["html", "md", "json", "sarif"]) -> str:  # as the option
    """A finished run as text."""
    report = read_report(folder)
    if format == "html":
        return render_html(report, _images(Path(folder)))
    if format == "md":
        return render_markdown(report)
    if format == "json":
        return report_bytes(report).decode().removesuffix("\n")
    return json.dumps(render_sarif(report), indent=2, allow_nan=False)


def write_text(path: Path, text: str) -> None:
    """`text` as a file, whole or not at all."""
    write_bytes(path, text.encode())


def threats_show(folder: str | Path | None = None) -> list[dict[str, Any]]:
    """The register's rows as JSON, with the evidence of the run in `folder` where there is one."""
    if folder is None:
        every = threat_rows(tuple(row for case in CASES for row in case.threats), (), ())
        rows: list[dict[str, Any]] = TypeAdapter(tuple[Threat, ...]).dump_python(every, mode="json")
        return list(rows)
    return list(json.loads(report_bytes(read_report(folder)))["threats"])
