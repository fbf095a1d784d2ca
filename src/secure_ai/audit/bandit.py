"""Bandit, run in a child process over a private copy of the sources.

The audited code decides nothing about its own audit: its `# nosec` comments are not honoured (`--ignore-nosec`), and a
`.bandit` file in it is not read, because only the sources are copied.
"""

from __future__ import annotations

import os
import subprocess  # starts only this Python with Bandit, with a fixed list of arguments
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_ai.core.errors import ChildFailedError
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB

TIMEOUT_SECONDS = 300.0
MAX_REPORT_BYTES = 64 * MIB
MAX_MEMORY_BYTES = 4096 * MIB  # of address space; Python's parser needs 200 MB for the largest source
_CHILD = "secure_ai.audit.bandit_child"
_EXIT_CODES = (0, 1)  # nothing found, something found


@dataclass(frozen=True, slots=True)
class BanditReport:
    """Bandit's two reports on the same sources, and the parsed one."""

    json_bytes: bytes
    text_bytes: bytes
    content: Mapping[str, Any]


def run_bandit(sources: Mapping[str, bytes], *, timeout_s: float = TIMEOUT_SECONDS) -> BanditReport:
    """Run Bandit with every rule over `sources` (relative name to content).

    Raises:
        ChildFailedError: Bandit is missing, died, timed out or did not answer in its own form.
        JsonError: its JSON is malformed.
    """
    with tempfile.TemporaryDirectory(prefix="secure-ai-audit-") as name:
        folder = Path(name).resolve() / "code"
        for relative, content in sources.items():
            place = folder / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        settings = folder.parent / "empty.ini"
        settings.write_text("[bandit]\n", encoding="ascii")
        scripts = [f"./{relative}" for relative in sources if not relative.endswith((".py", ".pyw"))]
        arguments = ["-r", ".", *scripts, "--ignore-nosec", "--ini", str(settings), "-x", ""]
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(_run, arguments, form, folder, timeout_s) for form in ("json", "txt")]
            json_bytes, text_bytes = (job.result() for job in jobs)
    content = parse_json(json_bytes, where="Bandit", max_bytes=MAX_REPORT_BYTES)
    return BanditReport(json_bytes, text_bytes, _checked(content))


def _run(arguments: Sequence[str], form: str, folder: Path, timeout_s: float) -> bytes:
    output = folder.parent / f"report.{form}"  # not standard output: Bandit draws its progress there
    limits = [str(MAX_MEMORY_BYTES), str(int(timeout_s) + 1)]
    command = [sys.executable, "-I", "-B", "-X", "utf8", "-m", _CHILD, *limits]
    command += [*arguments, "-f", form, "-o", str(output)]
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(folder.parent), "TMPDIR": str(folder.parent)}
    try:
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=timeout_s, check=False
        )
        report = output.read_bytes() if output.exists() else b""
    except subprocess.TimeoutExpired:
        raise ChildFailedError(
            "Bandit did not finish in time", where="bandit", expected=f"<= {timeout_s:g} s"
        ) from None
    if result.returncode not in _EXIT_CODES or not report:
        said = result.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise ChildFailedError("Bandit failed", where="bandit", expected="a report and exit code 0 or 1", got=said[0])
    return report


def _checked(content: Any) -> Mapping[str, Any]:
    """The report, if it has the parts that are read here."""
    parts = {"results": list, "errors": list, "metrics": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in parts.items()):
        raise ChildFailedError("Bandit answered in another form", where="bandit", expected=", ".join(parts))
    return content
