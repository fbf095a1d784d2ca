"""`secure-ai threats show`."""

from __future__ import annotations

from pathlib import Path

from secure_ai.cli.options import CommonOptions
from secure_ai.cli.render import print_json, print_table
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.runs.verbs import report as verb


def show(
    run: Path | None = None,
    *,
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Show the STRIDE register: what each report claimed, and with a run's folder what was measured.

    Args:
        run: A run's folder.
    """
    rows = verb.threats_show(run)
    if common.json:
        print_json({"schema_version": SCHEMA_VERSION, "threats": rows})
        return 0
    columns = ("id", "threat", "mitigation", "claimed", "status")
    print_table("STRIDE register", columns, [[str(row.get(column, "")) for column in columns] for row in rows])
    return 0
