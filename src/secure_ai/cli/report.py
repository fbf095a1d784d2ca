"""`secure-ai report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from secure_ai.cli.choices import ANY_CASE
from secure_ai.cli.options import CommonOptions, FailOptions
from secure_ai.cli.render import print_document
from secure_ai.report.render.verdict import gate_report
from secure_ai.runs.verbs import report as verb


def report(
    run: Path,
    *,
    format: Annotated[Literal["html", "md", "json", "sarif"], ANY_CASE] = "md",  # the option's name
    out: Path | None = None,
    fail: FailOptions = FailOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Show a finished run again, in another format.

    Args:
        run: The run's folder.
        format: html, md, json or sarif.
        out: Write to this file instead of the terminal.
    """
    if not verb.is_verified(run):
        print("not verified: there is no run.json beside report.json", file=sys.stderr)
    text = verb.render_report(run, "json" if common.json else format)
    if out is None:
        print_document(text)
    else:
        verb.write_text(out, text)
    return gate_report(verb.read_report(run), fail.fail_on)
