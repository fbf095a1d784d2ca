"""The headline chart as data: before and after, each network's accuracies from clean to the strongest attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secure_ai.report.render.text import cell, measurement_text, short_text, trust_badge, trust_word

Report = Mapping[str, Any]

TITLES = {  # of the built-in networks; any other model goes by its id
    "report-1/baseline": "Report 1: undefended",
    "report-1/defended-p": "Report 1: defended, as published (examples made once, for the baseline)",
    "report-1/defended-l": "Report 1: defended, as listed (examples made anew)",
    "report-1/poisoned": "Report 1: poisoned, labels kept",
    "report-1/badnets": "BadNets: poisoned, labels changed",
    "report-2/baseline": "Report 2: undefended",
    "report-2/defended": "Report 2: defended",
    "report-2/poisoned": "Report 2: poisoned, labels changed",
}
CONDITIONS = {
    "clean": "clean images",
    "transferred": "examples made for the baseline",
    "fgsm": "FGSM on itself",
    "pgd": "PGD on itself",
    "suite": "a whole suite on itself",
    "backdoor": "trigger succeeds",
    "backdoor-badnets": "BadNets' trigger",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: all lengths in percent of the whole.

    Attributes:
        published: the published figure that this measurement reproduces, or None.
        word: the trust word that must stand beside the value, or nothing.
    """

    label: str
    value: float
    low: float
    high: float
    short: str
    full: str
    badge: str
    word: str
    kind: str
    published: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The bars of one model."""

    title: str
    bars: tuple[Bar, ...]


def accuracy_groups(report: Report) -> list[Group]:
    """Clean accuracy and every robust accuracy of each model that was attacked, in report order."""
    attacked = {m["model"] for m in report["measurements"] if m["metric"] == "robust_accuracy"}
    groups = []
    for model in _models(report):
        rows = [m for m in report["measurements"] if m["model"] == model]
        robust = [m for m in rows if m["metric"] == "robust_accuracy"]
        if model in attacked:
            groups.append(_group(report, model, [*_clean(rows), *robust]))
    return [group for group in groups if group.bars]


def backdoor_group(report: Report) -> Group | None:
    """Backdoor success of every model that it was measured on, or None."""
    rows = [m for m in report["measurements"] if m["metric"] == "backdoor_success_rate"]
    bars = tuple(bar for m in rows if (bar := _bar(m, _triggered_title(m), "backdoor", {})) is not None)
    return Group("Triggered images of other classes that go to the target (0 % is good)", bars) if bars else None


def _triggered_title(m: Mapping[str, Any]) -> str:
    condition = str(m["id"]).rsplit("/", 1)[-1]
    return _title(m["model"]) + ("" if condition == "backdoor" else f", {CONDITIONS.get(condition, cell(condition))}")


def _models(report: Report) -> list[str]:
    return list(dict.fromkeys(str(m["model"]) for m in report["measurements"]))


def _clean(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The clean accuracy over the most images: not the one over a single class."""
    clean = [m for m in rows if m["metric"] == "clean_accuracy"]
    return [max(clean, key=lambda m: int(m["value"]["n"]))] if clean else []


def _group(report: Report, model: str, rows: Sequence[Mapping[str, Any]]) -> Group:
    published = _published(report)
    bars = []
    for m in rows:
        condition = str(m["id"]).rsplit("/", 1)[-1]
        kind = "clean" if m["metric"] == "clean_accuracy" else "robust"
        bars.append(_bar(m, CONDITIONS.get(condition, cell(condition)), kind, published))
    return Group(_title(model), tuple(bar for bar in bars if bar is not None))


def _bar(m: Mapping[str, Any], label: str, kind: str, published: Mapping[str, float]) -> Bar | None:
    rate = m["value"]
    if rate["value"] is None:
        return None
    mark = published.get(str(m["id"]))
    return Bar(
        label=label,
        value=round(100 * rate["value"], 3),
        low=round(100 * rate["ci_low"], 3),
        high=round(100 * rate["ci_high"], 3),
        short=short_text(m),
        full=measurement_text(m),
        badge=trust_badge(m),
        word=trust_word(m),
        kind=kind,
        published=None if mark is None else round(100 * mark, 3),
    )


def _published(report: Report) -> dict[str, float]:
    """Measurement id to the published share that it reproduces."""
    return {
        row["same_protocol"]["id"]: row["published"]["value"]
        for row in reversed(report["reproduction"])
        if row["same_protocol"] and row["published"]["unit"] == "share" and row["published"]["value"] is not None
    }


def _title(model: object) -> str:
    return TITLES.get(str(model), cell(model))
