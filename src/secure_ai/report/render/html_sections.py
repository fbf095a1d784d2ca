"""Sections made ready for the HTML template: cells as text, links between entries, anchors where they lead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from secure_ai.core.results import Choice, Quantity, Rate
from secure_ai.core.sections import Cell, Ref, Section
from secure_ai.report.model import Report
from secure_ai.report.render.text import Trusted, Words, column_title, row_word, trust_words, written
from secure_ai.report.sections import folded_sections, main_sections, sorted_findings

HOMES = {  # sections whose rows are the entries that links lead to
    "measurement": {"report/measurements", "report/quantities", "report/choices", "report/distances"},
    "threat": {"report/threats", "report/threats-not-tested"},
    "model": {"report/models"},
}
TIGHT = 24  # characters


@dataclass(frozen=True, slots=True)
class HtmlCell:
    """One cell.

    Attributes:
        main: its text with the trust word; small: what stands below it in smaller print.
        kind: text, tight (never broken into lines), number, choice or path.
        mark: the word that a badge is coloured by.
        anchor: its id on the page; `link`: the anchor that it leads to.
    """

    main: str
    small: str = ""
    kind: str = "text"
    mark: str = ""
    anchor: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class HtmlSection:
    """One table; `anchor` is its id on the page."""

    anchor: str
    title: str
    intro: str
    columns: tuple[str, ...]
    rows: tuple[tuple[HtmlCell, ...], ...]
    note: str


def draw_all(report: Report, sections: Iterable[Section]) -> list[HtmlSection]:
    """Sections of the report as the template needs them."""
    words, anchors, details = trust_words(report), _anchors(report), _details(report)
    return [_draw(section, words, anchors, details) for section in sections]


def _anchors(report: Report) -> dict[tuple[str, str], str]:
    """Anchors by kind and id, numbered: an id from elsewhere never becomes part of one."""
    numbers: tuple[Trusted, ...] = (*report.measurements, *report.quantities, *report.choices, *report.distances)
    ids = {
        "measurement": [number.id for number in numbers],
        "threat": [threat.id for threat in report.threats],
        "model": [model.id for model in report.models],
        "finding": [finding.id for finding in sorted_findings(report)],
        "section": [section.id for section in (*main_sections(report), *folded_sections(report))],
    }
    return {
        (kind, name): f"{kind}-{number}"
        for kind, names in ids.items()
        for number, name in reversed(list(enumerate(names)))  # of several with one id, links lead to the first
    }


def _details(report: Report) -> dict[tuple[str, str], str]:
    """What stands in small print below an entry's id."""
    found = {("measurement", m.id): m.protocol for m in report.measurements}
    for t in report.threats:
        found["threat", t.id] = f"against: {t.threat} ({t.report}, {t.where}); {', '.join(t.taxonomy)}"
    return found


def _draw(
    section: Section, words: Words, anchors: Mapping[tuple[str, str], str], details: Mapping[tuple[str, str], str]
) -> HtmlSection:
    rows = []
    for row in section.rows:
        cells = [_cell(item, row_word(row, words), anchors) for item in row]
        first = row[0]
        if isinstance(first, Ref) and section.id in HOMES.get(first.kind, ()):
            place = first.kind, first.id
            cells[0] = HtmlCell(cells[0].main, details.get(place, ""), "path", anchor=anchors.get(place, ""))
        rows.append(tuple(cells))
    columns = tuple(column_title(column) for column in section.columns)
    anchor = anchors["section", section.id]
    return HtmlSection(anchor, section.title, section.intro, columns, tuple(rows), section.note)


def _cell(content: Cell, word: str, anchors: Mapping[tuple[str, str], str]) -> HtmlCell:
    text = written(content, word)
    match content:
        case Ref():
            return HtmlCell(text.main, kind="path", link=anchors.get((content.kind, content.id), ""))
        case Choice():
            return HtmlCell(text.short, kind="choice", mark=content.value.replace(" ", "_"))
        case Rate() | Quantity():
            return HtmlCell(text.short, text.small, "number")
        case _:
            return HtmlCell(text.short, kind="tight" if len(text.short) <= TIGHT else "text")
