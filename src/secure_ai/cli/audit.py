"""`secure-ai audit code`, `secure-ai audit log verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from secure_ai.cli.choices import ANY_CASE
from secure_ai.cli.options import CommonOptions
from secure_ai.cli.render import print_json, print_lines, print_table
from secure_ai.core.findings import FailOn
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.runs.verbs import audit as verb


def code(
    path: Path,
    *,
    fail_on: Annotated[FailOn, ANY_CASE] = "high",
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Audit Python code with Bandit. The code is read, never run.

    Args:
        path: A file or folder.
        fail_on: Exit 1 when a finding is at or above this severity.
    """
    result, exit_code = verb.audit_code(path, fail_on=fail_on)
    if common.json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "outcome": result.outcome.value,
                "files": result.files,
                "lines": result.lines,
                "findings": [finding.as_json() for finding in result.findings],
            }
        )
        return exit_code
    print_lines(
        [f"{result.outcome.value}: {len(result.findings)} findings in {result.files} files, {result.lines} lines"]
    )
    rows = [(f.id, f.severity.value, f.location, f.message) for f in result.findings]
    if rows:
        print_table("findings", ("id", "severity", "where", "what"), rows)
    return exit_code


def log_verify(
    file: Path,
    *,
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Check the hash chain of an event log.

    Whether the end was cut off shows only with the last digest, which run.json holds.

    Args:
        file: The events.jsonl of a run.
    """
    state = verb.audit_log_verify(file)
    if common.json:
        print_json({"schema_version": SCHEMA_VERSION, "records": state.records, "digest": state.digest})
    else:
        print_lines([f"the chain holds: {state.records} records, last digest {state.digest}"])
    return 0
