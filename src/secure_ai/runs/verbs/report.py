"""The verbs that read a finished run: `report`, `threats show`. They read what the run wrote, never a model or data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from secure_ai.core.errors import DigestMismatchError, FormatError
from secure_ai.core.results import rate
from secure_ai.core.trust import CheckOutcome, Verdict
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_beneath
from secure_ai.files.sniff import Format, sniff
from secure_ai.files.write import write_bytes
from secure_ai.report.render.html import render_html
from secure_ai.report.render.markdown import render_markdown
from secure_ai.report.render.sarif import render_sarif
from secure_ai.report.schema import check_report
from secure_ai.threats.register import threat_rows

MAX_REPORT_BYTES = 64 * MIB
ROUNDING = 1e-9
MAX_IMAGE_BYTES = 16 * MIB


def read_report(folder: Path) -> dict[str, Any]:
    """The `report.json` of a run's folder.

    Raises:
        FormatError: it does not fit the schema; SecureAIError: it cannot be read.
    """
    file = read_beneath(folder, "report.json", max_bytes=MAX_REPORT_BYTES)
    expected = _recorded_digest(folder)
    if expected is not None and expected != file.sha256:
        raise DigestMismatchError(
            "report.json is not the file that the run wrote", where=file.name, expected=expected, got=file.sha256
        )
    content = check_report(parse_json(file.content, where=file.name, max_bytes=MAX_REPORT_BYTES), where=file.name)
    for entry in content["measurements"]:
        _refuse_inconsistent(entry["value"], f"{file.name}, {entry['id']}")
        _refuse_unfounded(entry["trust"], f"{file.name}, {entry['id']}")
    for entry in content.get("transfers", []):
        for value in (value for row in entry["rates"] for value in row):
            _refuse_inconsistent(value, f"{file.name}, {entry['id']}")
    for entry in content.get("distances", []):
        _refuse_inconsistent(entry["found"], f"{file.name}, {entry['id']}")
        _refuse_unfounded(entry.get("trust"), f"{file.name}, {entry['id']}")
    return content


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


def _refuse_inconsistent(value: dict[str, Any], where: str) -> None:
    """A rate must be the one that its counts give."""
    if value["value"] is None:
        return
    computed = rate(value["successes"], value["n"]).as_json()
    if any(abs(computed[key] - value[key]) > ROUNDING for key in ("value", "ci_low", "ci_high")):
        raise FormatError(
            "a rate that its counts do not give", where=where, expected=computed["value"], got=value["value"]
        )


def _refuse_unfounded(trust: dict[str, Any] | None, where: str) -> None:
    """A number is `reliable` only where a check ran and none failed."""
    if trust is None or trust["verdict"] != Verdict.RELIABLE:
        return
    outcomes = {made["id"]: made["outcome"] for made in trust["checks"]}
    failed = [name for name, outcome in outcomes.items() if outcome == CheckOutcome.FAIL]
    if failed or CheckOutcome.PASS not in outcomes.values():
        got = f"reliable, failed: {', '.join(failed)}" if failed else "reliable, and no check ran"
        raise FormatError("a verdict that its checks do not give", where=where, expected="doubtful or broken", got=got)


def _images(folder: Path) -> dict[str, bytes]:
    images: dict[str, bytes] = {}
    for name in sorted(path.name for path in (folder / "images").glob("*.png")):
        content = read_beneath(folder, f"images/{name}", max_bytes=MAX_IMAGE_BYTES).content
        if (found := sniff(content)) is not Format.PNG:
            raise FormatError("not a picture of a run", where=f"images/{name}", expected="PNG", got=found)
        images[name.removesuffix(".png")] = content
    return images


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
