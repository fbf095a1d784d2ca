"""What every benchmark shares: where results lie, and what they say of the machine that made them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _package import describe_machine, versions

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
CODE = ("src", "benchmarks/*.py", "benchmarks/report1")  # not the results, which a run writes


def commit() -> str:
    """The commit that was measured, marked where the tree differed from it.

    Of a copy without git: what MEASURED_COMMIT says, as given.
    """

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    if not (ROOT / ".git").exists():
        return os.environ.get("MEASURED_COMMIT", "unknown")
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "--", *CODE) else "")


def machine() -> str:
    """This machine in a line."""
    found = describe_machine()
    return f"{found['processor']}, {found['cores']} cores, {' '.join(found['bf16_units']) or 'no bf16 units'}"


def rows_with(name: str, fresh: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of `results/NAME.json` with `fresh` in place of those of the same names; the others stay."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    return {**before, **fresh}


def save(name: str, command: str, content: dict[str, Any]) -> Path:
    """Write `results/NAME.json` with command, commit, machine and versions beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {
        "command": command,
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        **content,
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}")
    return path
