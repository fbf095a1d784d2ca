"""The verbs that read a finished run: `report`, `threats show`. They read `report.json` and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_beneath
from secure_ai.files.write import write_bytes
from secure_ai.report.html import render_html
from secure_ai.report.markdown import render_markdown
from secure_ai.report.sarif import render_sarif
from secure_ai.report.schema import check_report
from secure_ai.threats.register import threat_rows

MAX_REPORT_BYTES = 64 * MIB
MAX_IMAGE_BYTES = 16 * MIB


def read_report(folder: Path) -> dict[str, Any]:
    """The `report.json` of a run's folder.

    Raises:
        FormatError: it does not fit the schema; SecureAIError: it cannot be read.
    """
    file = read_beneath(folder, "report.json", max_bytes=MAX_REPORT_BYTES)
    return check_report(parse_json(file.content, where=file.name, max_bytes=MAX_REPORT_BYTES), where=file.name)


def _images(folder: Path) -> dict[str, bytes]:
    names = sorted(path.name for path in (folder / "images").glob("*.png"))
    return {
        name.removesuffix(".png"): read_beneath(folder, f"images/{name}", max_bytes=MAX_IMAGE_BYTES).content
        for name in names
    }


def render(folder: Path, format: Literal["html", "md", "json", "sarif"]) -> str:  # as the option
    """A finished run as text."""
    report = read_report(folder)
    if format == "html":
        return render_html(report, _images(folder))
    if format == "md":
        return render_markdown(report)
    return json.dumps(render_sarif(report) if format == "sarif" else report, indent=2, allow_nan=False)


def write_text(path: Path, text: str) -> None:
    """`text` as a file, whole or not at all."""
    write_bytes(path, text.encode())


def threats(folder: Path | None) -> list[dict[str, Any]]:
    """The register's rows, with the evidence of the run in `folder` where there is one."""
    if folder is None:
        return threat_rows([], [])
    return list(read_report(folder)["threats"])
