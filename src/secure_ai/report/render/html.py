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
from typing import TYPE_CHECKING, Any

from secure_ai.core.findings import Severity
from secure_ai.report.render import headline, terminal
from secure_ai.report.render.text import budget_text, cell, measurement_text, short_text, trust_badge, work_text
from secure_ai.report.render.verdict import verdict
from secure_ai.threats.taxonomy import NAMES, STRIDE

if TYPE_CHECKING:
    from jinja2 import Environment

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
WORST = 3
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
STATUS_WORDS = {
    "mitigated": "mitigated",
    "ineffective": "ineffective",
    "inconclusive": "inconclusive",
    "not_tested": "not tested",
}


def render_html(report: Mapping[str, Any], images: Mapping[str, bytes]) -> str:
    """The report as one HTML page; the same page for the same input.

    Args:
        report: parsed report.json.
        images: file name (with or without `.png`) to PNG bytes, shown in this order.

    Raises:
        ValueError: an image is not a PNG.
    """
    environment = _environment()
    style = _resource("report.css")
    page = environment.get_template("report.html.j2").render(
        report=report,
        style=style,
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        verdict=verdict(report),
        worst=_worst(report),
        not_tested=terminal.not_tested_table(report),
        groups=headline.accuracy_groups(report),
        backdoors=headline.backdoor_group(report),
        pictures=_pictures(images),
        measurements=terminal.own_measurements(report),
        comparisons=terminal.comparison_table(report),
        distances=terminal.distance_table(report),
        transfers=terminal.transfer_tables(report),
        classes=[terminal.class_table(entry) for entry in report.get("confusions", [])],
        letters=_letters(report),
        findings=terminal.sorted_findings(report),
        stages=terminal.stage_table(report),
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
        "budget": budget_text,
        "measured": measurement_text,
        "short": short_text,
        "badge": trust_badge,
        "holds": terminal.holds_text,
        "work": work_text,
        "status": _status_word,
        "evidence": lambda content: json.dumps(content, ensure_ascii=False, sort_keys=True, default=str),
        "count": lambda number: f"{number:,}",
    }
    return environment


def _status_word(text: str) -> str:
    return STATUS_WORDS.get(text, text)


def _printed(value: object) -> object:
    """A string as one printable line in which a number stays with its unit."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", cell(value))
    return value


def _resource(name: str) -> str:
    return importlib.resources.files("secure_ai.report.render").joinpath("templates", name).read_text(encoding="utf-8")


def _worst(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The three worst things in plain words: grave findings, contradicted headline claims, lesser findings.

    What the tool planted or reproduced itself comes last: it counts for nothing, yet it may be all that a run shows.
    """
    claims = [
        {"mark": "wrong", "what": row["published"]["text"], "why": row["reason"], "target": "reproduction"}
        for row in report["reproduction"]
        if row["holds"] == "no" and row.get("headline")
    ]
    findings = terminal.sorted_findings(report)
    own = [f for f in findings if not f["planted"]]
    grave = [_plainly(f, "") for f in own if Severity(f["severity"]).rank >= Severity.HIGH.rank]
    lesser = [_plainly(f, "") for f in own if Severity(f["severity"]) is Severity.MEDIUM]
    planted = [_plainly(f, "Reproduced by the tool itself: ") for f in findings if f["planted"]]
    return (grave + claims + lesser + planted)[:WORST]


def _plainly(finding: Mapping[str, Any], origin: str) -> dict[str, str]:
    return {
        "mark": finding["severity"],
        "what": f"{origin}{finding['message']}",
        "why": finding["remediation"],
        "target": "findings",
    }


def _pictures(images: Mapping[str, bytes]) -> list[dict[str, str]]:
    pictures = []
    for name, content in images.items():
        if not content.startswith(PNG_SIGNATURE):
            raise ValueError(f"{cell(name)} is not a PNG")
        stem = name.rsplit("/", 1)[-1].removesuffix(".png")
        title = PICTURE_TITLES.get(stem, stem.replace("_", " ").replace("-", " "))
        pictures.append({"title": title, "name": name, "base64": base64.b64encode(content).decode()})
    return pictures


def _letters(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """STRIDE rows by letter, those with a measurement apart from the others."""
    letters = []
    for letter, name in STRIDE.items():
        rows = [row for row in report["threats"] if row["letter"] == letter]
        if rows:
            untested = [row for row in rows if row["status"] == "not_tested"]
            measured = [row for row in rows if row["status"] != "not_tested"]
            letters.append({"letter": letter, "name": name, "measured": measured, "not_tested": untested})
    return letters
