"""A report as Markdown: the summary of a pull request or a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from secure_ai.core.sections import Section
from secure_ai.report.model import Report
from secure_ai.report.render.text import Words, cell, column_title, text_rows, trust_words, work_text
from secure_ai.report.render.verdict import verdict_line
from secure_ai.report.sections import folded_sections, main_sections

_SPECIAL = re.compile(r"[\\`*_\[\]|~]")
_ACTIVE = re.compile(r"[&<>@]|(?<=\w):(?=//)|(?<=www)\.")


def escape(text: str) -> str:
    """`text` so that Markdown shows it literally: a name cannot open a cell, a tag, a link, an image or a mention."""
    entities = _ACTIVE.sub(lambda match: f"&#{ord(match.group())};", cell(text))
    return _SPECIAL.sub(lambda match: "\\" + match.group(), entities)


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with escaped cells."""
    lines = [_line([escape(title) for title in titles]), _line(["---"] * len(titles))]
    lines += [_line([escape(text) for text in row]) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(text or " " for text in cells) + " |"


def render_markdown(report: Report) -> str:
    """The whole report, verdict first; the same text for the same report."""
    run, words = report.run, trust_words(report)
    parts = [
        f"## secure-ai: {escape(verdict_line(report))}",
        f"Recipe {escape(run.recipe)}, run {escape(run.id)}, seed {run.seed}, {work_text(run)}.",
    ]
    for section in main_sections(report):
        parts += [f"### {escape(section.title)}", markdown_section(section, words)]
    for section in folded_sections(report):
        summary = f"<summary>{escape(section.title)}</summary>"
        parts.append(f"<details>{summary}\n\n{markdown_section(section, words)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def markdown_section(section: Section, words: Words) -> str:
    """A section without its title."""
    table = markdown_table([column_title(column) for column in section.columns], text_rows(section, words))
    return "\n\n".join(part for part in (escape(section.intro), table, escape(section.note)) if part)
