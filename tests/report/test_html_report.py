"""report.html: offline, escaped, accessible, and every doubtful number with its word."""

from __future__ import annotations

import base64
import hashlib
import html
import html.parser
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from secure_ai.core.results import Choice, Quantity, Rate
from secure_ai.core.sections import Cell, Column, Ref, Section
from secure_ai.report.model import Report, parse_report
from secure_ai.report.render.html import PICTURE_TITLES, PNG_SIGNATURE, render_html

VOID = {"meta", "img", "wbr", "br", "link", "rect", "line"}
PNG = PNG_SIGNATURE + b"picture"
LISTS = ("models", "data", "measurements", "reproduction", "findings", "threats", "not_tested")
HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>\u202e\x1b[31m{{7*7}}"


def typed(content: dict[str, Any]) -> Report:
    return parse_report(json.dumps(content).encode(), "report.json")


class Page(html.parser.HTMLParser):
    """Collects tags, text and ids, and checks that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def plain(self) -> str:
        """Visible text with single spaces."""
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture
def page(report: dict[str, Any]) -> Page:
    return Page(render_html(typed(report), {"baseline_confusion.png": PNG, "my picture.png": PNG}))


def test_tags_are_balanced_and_links_lead_somewhere(page: Page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(attributes["href"]) for attributes in page.all("a")}
    assert targets <= {f"#{identifier}" for identifier in ids}
    labels = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    assert labels <= set(ids)


def test_a_finding_leads_to_its_picture_where_the_page_has_it(report: dict[str, Any]) -> None:
    shown, other = PNG, PNG + b"other"
    report["findings"][0]["evidence"]["picture"] = "images/trigger.png"
    for images, expected in (({"a": other, "trigger": shown}, 1), ({"a": other}, 0)):
        page = Page(render_html(typed(report), images))
        links = [str(one["href"]) for one in page.all("a") if str(one["href"]).startswith("#picture-")]
        figures = [str(one["id"]) for one in page.all("figure")]
        assert links == [f"#{figures[-1]}"] * expected


def test_nothing_is_loaded_and_nothing_runs(report: dict[str, Any]) -> None:
    text = render_html(typed(report), {"a.png": PNG})
    page = Page(text)
    assert page.all("script") == page.all("link") == page.all("iframe") == page.all("form") == []
    assert "://" not in text
    assert all(str(attributes["src"]).startswith("data:image/png;base64,") for attributes in page.all("img"))
    for _, attributes in page.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    style = text[text.index("<style>") + 7 : text.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert len(text.encode()) < 500_000


def test_verdict_comes_first_and_what_was_not_tested_before_the_results(page: Page, report: dict[str, Any]) -> None:
    text = page.plain
    order = ["DOES NOT HOLD", "Worst first", "Not tested", "Before and after", "Published figures", "Measurements"]
    places = [text.index(f" {word} ") for word in order]
    assert places == sorted(places)
    assert [entry for entry in report["not_tested"] if entry not in text] == []
    assert " 35 of 41 STRIDE " in text


def test_three_worst_things_in_order(page: Page, report: dict[str, Any]) -> None:
    text = page.plain
    worst = text[text.index("Worst first") : text.index("Not tested")]
    assert [word for word in re.findall(r"\b(critical|high|wrong|medium)\b", worst)][:3] == ["high", "wrong", "wrong"]
    planted = [finding | {"planted": True} for finding in report["findings"]]
    shown = Page(render_html(typed({**report, "findings": planted, "reproduction": []}), {})).plain
    assert shown.count(" tool itself: ") == 3
    report |= {"findings": [], "reproduction": []}
    assert "No findings." in Page(render_html(typed(report), {})).plain


def test_every_doubtful_number_stands_with_its_word(report: dict[str, Any]) -> None:
    text = Page(render_html(typed(report), {})).plain
    for value, word in (("99.20", "broken"), ("91.77", "doubtful"), ("84.20", "doubtful")):
        places = [match.end() for match in re.finditer(rf"\b{value}\s%", text)]
        assert len(places) > 2
        assert [text[place : place + 40] for place in places if word not in text[place : place + 40]] == []


def test_tables_and_pictures_are_labelled(page: Page) -> None:
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    labelled = [a for a in page.all("svg") if a.get("role") == "img"]
    assert labelled
    assert all(a.get("aria-label") for a in labelled)
    assert page.all("html")[0]["lang"] == "en"
    assert PICTURE_TITLES["baseline_confusion"] in page.plain
    assert "my picture" in page.plain


def test_hostile_strings_are_shown_not_obeyed(report: dict[str, Any]) -> None:
    text = render_html(typed(_poison(report)), {HOSTILE: PNG})
    page = Page(text)
    assert page.open == []
    assert page.all("script") == []
    assert all(str(a["src"]).startswith("data:image/png") for a in page.all("img"))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "49" not in re.findall(r"\{\{7\*7\}\}|49(?=</)", text)
    assert text.count(html.escape("<script>", quote=True)) > 50


def _poison(value: Any, key: str = "") -> Any:
    """`value` with every free text replaced by a hostile one; enumerated words and digests stay."""
    kept = {"holds", "status", "severity", "verdict", "outcome", "letter", "claimed", "metric", "role", "norm", "unit",
            "word", "digest", "drawn", "tool", "basis"}  # fmt: skip
    if key == "tool":
        return value
    if isinstance(value, dict):
        return {name: _poison(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_poison(item, key) for item in value]
    if not isinstance(value, str) or key in kept or not value:
        return value
    return HOSTILE + (value if key == "id" else "")  # ids stand once


def test_hostile_sections_are_shown_not_obeyed(report: dict[str, Any]) -> None:
    cells: tuple[Cell, ...] = (
        HOSTILE, Ref("model", HOSTILE), Ref("measurement", "report-1/baseline/pgd"), Choice(HOSTILE, (HOSTILE,)),
        Quantity(1.0, HOSTILE), Quantity(None, "", reason=HOSTILE), Rate(None, None, None, 0, 0, HOSTILE),
    )  # fmt: skip
    columns = tuple(Column(str(number), HOSTILE, HOSTILE) for number in range(len(cells)))
    own = Section("own", HOSTILE, HOSTILE, columns, (cells, cells), HOSTILE)
    text = render_html(replace(typed(report), sections=(own,)), {})
    page = Page(text)
    assert page.open == []
    assert page.all("script") == []
    assert page.all("img") == []
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "\x1b" not in text
    assert text.count(html.escape("<script>", quote=True)) >= 2 * (len(cells) - 1) + 2 * len(cells)
    targets = [str(a["href"])[1:] for a in page.all("a")]
    assert len([a for _, a in page.tags if a.get("id") in targets]) >= len(set(targets))


def test_an_image_that_is_no_png_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a PNG"):
        render_html(typed(report), {"a.png": b"<svg onload=alert(1)>"})


def test_the_same_report_gives_the_same_page(report: dict[str, Any]) -> None:
    assert render_html(typed(report), {"a.png": PNG}) == render_html(typed(report), {"a.png": PNG})


def test_the_least_report_renders() -> None:
    least = {
        "schema_version": 1,
        "tool": {"name": "secure-ai", "version": "0"},
        "run": {"id": "x", "recipe": "quick", "complete": False, "seconds": 0, "seed": 0},
        **{
            name: [] for name in ("models", "data", "measurements", "reproduction", "findings", "threats", "not_tested")
        },
    }
    page = Page(render_html(typed(least), {}))
    assert page.open == []
    assert "INCOMPLETE RUN" in page.plain
    assert "skipped." in page.plain


def test_a_measurement_without_a_value_says_why(report: dict[str, Any]) -> None:
    reason = "no image was right before"
    report["measurements"][0]["value"] = {
        "value": None, "ci_low": None, "ci_high": None, "n": 0, "successes": 0, "reason": reason,
    }  # fmt: skip
    assert f"none ({reason})" in Page(render_html(typed(report), {})).plain
