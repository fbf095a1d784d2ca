"""A report as Markdown: the summary of a pull request or a CI job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from secure_ai.report.render.terminal import Table, all_tables, reproduction_table, stage_table
from secure_ai.report.render.text import cell, work_text
from secure_ai.report.render.verdict import verdict_line

_SPECIAL = re.compile(r"[\\`*_\[\]|~]")
_ACTIVE = re.compile(r"[&<>@]|(?<=\w):(?=//)|(?<=www)\.")


def escape(text: str) -> str:
    """`text` so that Markdown shows it literally: a name cannot open a cell, a tag, a link, an image or a mention."""
    entities = _ACTIVE.sub(lambda match: f"&#{ord(match.group())};", cell(text))
    return _SPECIAL.sub(lambda match: "\\" + match.group(), entities)


def markdown_table(table: Table) -> str:
    """A table with escaped cells."""
    lines = [_line(table.columns), _line(["---"] * len(table.columns))]
    lines += [_line([escape(text) for text in row]) for row in table.rows]
    return "\n".join(lines)


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(text or " " for text in cells) + " |"


def render_markdown(report: Mapping[str, Any]) -> str:
    """The whole report, verdict first; the same text for the same report."""
    run = report["run"]
    parts = [
        f"## secure-ai: {escape(verdict_line(report))}",
        f"Recipe {escape(run['recipe'])}, run {escape(run['id'])}, seed {run['seed']}, {work_text(run)}.",
    ]
    for table in all_tables(report):
        parts += [f"### {escape(table.title)}", markdown_table(table)]
    complete = reproduction_table(report)
    if complete.rows:
        parts += [_folded(f"All {len(complete.rows)} published figures and claims", complete)]
    stages = stage_table(report)
    if stages.rows:
        parts += [_folded("Seconds per stage", stages)]
    return "\n\n".join(parts) + "\n"


def _folded(title: str, table: Table) -> str:
    return f"<details><summary>{escape(title)}</summary>\n\n{markdown_table(table)}\n\n</details>"
