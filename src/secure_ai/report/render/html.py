"""report.html: one file that needs no network, no script and no other file.

Every string of a report may come from an attacker (file names, class names, messages): templates escape everything, the
content security policy admits one style sheet by its digest and pictures as data, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from secure_ai.core.result import SUBJECT
from secure_ai.core.sections import picture_file
from secure_ai.core.trust import fed_wrongly
from secure_ai.report.model import Report
from secure_ai.report.render import headline
from secure_ai.report.render.html_sections import draw_all
from secure_ai.report.render.text import cell, work_text
from secure_ai.report.render.verdict import verdict
from secure_ai.report.render.worst import worst_things
from secure_ai.report.sections import (
    folded_sections,
    holds,
    main_sections,
    not_tested_section,
    sorted_findings,
    users_names,
)
from secure_ai.threats.taxonomy import NAMES

if TYPE_CHECKING:
    from jinja2 import Environment

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|s|ms|µs|points)\b|%)")
PICTURE_TITLES = {
    "baseline_accuracy": "Baseline: accuracy during training",
    "baseline_loss": "Baseline: loss during training",
    "baseline_confusion": "Baseline on clean images",
    "baseline_fgsm_confusion": "Baseline under FGSM",
    "advtrained_clean_confusion": "Defended network on clean images",
    "advtrained_fgsm_confusion": "Defended network on examples made for the baseline",
    "fgsm_accuracy_comparison": "Accuracy under FGSM, before and after",
    "poison_confusion": "Poisoned network on clean images",
    "poison_clean_confusion": "Poisoned network on clean images",
    "poison_target_effect": "What the trigger does",
    "transfer_matrix": "Which examples fool which network",
    "transfer_matrix_subject": "Which examples fool which network",
    "adversarial_examples_report_1": "Adversarial examples for report 1's networks",
    "adversarial_examples_report_2": "Adversarial examples for report 2's networks",
    "adversarial_examples_subject": "Adversarial examples for the network",
}
BESPOKE = {"report/figures", "report/all-figures", "report/findings", "report/not-tested"}  # drawn in their own way

NOT_TESTED_SHOWN = 10  # lines of the card; the others are folded away


def render_html(report: Report, images: Mapping[str, bytes]) -> str:
    """The report as one HTML page; the same page for the same input.

    Args:
        images: file name (with or without `.png`) to PNG bytes, shown in this order.

    Raises:
        ValueError: an image is not a PNG.
    """
    environment, groups = _environment(), headline.accuracy_groups(report)
    compared = any(bar.published is not None for group in groups for bar in group.bars)
    style = _resource("report.css")
    page = environment.get_template("report.html.j2").render(
        report=report,
        style=style,
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        verdict=verdict(report),
        worst=worst_things(report),
        not_tested=[row[0] for row in not_tested_section(report).rows],
        shown=NOT_TESTED_SHOWN,
        groups=groups,
        compared=compared,
        users_names=users_names(report),
        misfed=any(fed_wrongly(model.preflight) for model in report.models if model.role == SUBJECT),
        backdoors=headline.backdoor_group(report),
        pictures=_pictures(images),
        sections=draw_all(report, [s for s in main_sections(report) if s.id not in BESPOKE]),
        folded=draw_all(report, [s for s in folded_sections(report) if s.id not in BESPOKE]),
        findings=sorted_findings(report),
        names=NAMES,
    )
    return page + "\n"


def _environment() -> Environment:
    """Jinja with escaping always on, undefined names as errors, and every printed value made one printable line."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters |= {
        "holds": lambda figure: holds(figure).value,
        "work": work_text,
        "evidence": lambda content: json.dumps(content, ensure_ascii=False, sort_keys=True, default=str),
        "count": lambda number: f"{number:,}",
    }
    return environment


def _printed(value: object) -> object:
    """A string as one printable line in which a number stays with its unit."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", cell(value))
    return value


def _resource(name: str) -> str:
    return importlib.resources.files("secure_ai.report.render").joinpath("templates", name).read_text(encoding="utf-8")


def _pictures(images: Mapping[str, bytes]) -> list[dict[str, str]]:
    pictures = []
    for number, (name, content) in enumerate(images.items()):
        if not content.startswith(PNG_SIGNATURE):
            raise ValueError(f"{cell(name)} is not a PNG")
        stem = name.rsplit("/", 1)[-1].removesuffix(".png")
        title = PICTURE_TITLES.get(stem, stem.replace("_", " ").replace("-", " "))
        pictures.append(
            {"title": title, "file": picture_file(stem), "anchor": f"picture-{number}",
             "base64": base64.b64encode(content).decode()}
        )  # fmt: skip
    return pictures
