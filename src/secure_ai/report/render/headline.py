"""The headline chart as data: before and after, each network's accuracies from clean to the strongest attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secure_ai.core.results import Measurement, at_the_budget
from secure_ai.report.model import Report
from secure_ai.report.render.text import cell, measurement

CONDITIONS = {
    "clean": "clean images",
    "transferred": "examples made for the baseline",
    "fgsm": "FGSM, white-box",
    "pgd": "PGD, white-box",
    "suite": "full attack suite",
    "attacked": "under attack",
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
    word: str
    kind: str
    published: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The bars of one model; `model` is its id."""

    model: str
    title: str
    bars: tuple[Bar, ...]


def accuracy_groups(report: Report) -> list[Group]:
    """Clean accuracy and every robust accuracy of each model that was attacked, in report order."""
    titles, published = _titles(report), _published(report)
    groups = []
    for model in dict.fromkeys(m.model for m in report.measurements):
        rows = [m for m in report.measurements if m.model == model]
        robust = [m for m in at_the_budget(rows) if m.metric == "robust_accuracy"]  # a curve is a picture
        if robust:
            bars = [_bar(m, _condition(m, titles), published) for m in (*_clean(rows), *robust)]
            groups.append(Group(model, _title(model, titles), tuple(bar for bar in bars if bar is not None)))
    return [group for group in groups if group.bars]


def backdoor_group(report: Report) -> Group | None:
    """Backdoor success of every model that it was measured on, or None."""
    titles = _titles(report)
    rows = [m for m in report.measurements if m.metric == "backdoor_success_rate"]
    bars = tuple(bar for m in rows if (bar := _bar(m, _triggered(m, titles), {})) is not None)
    return Group("", "Triggered images of other classes that go to the target (0 % is good)", bars) if bars else None


def _titles(report: Report) -> dict[str, str]:
    return {model.id: cell(model.title) for model in report.models if model.title}


def _title(model: str, titles: Mapping[str, str]) -> str:
    return titles.get(model, cell(model))


def _condition(m: Measurement, titles: Mapping[str, str]) -> str:
    if m.made_for:
        return f"examples made for {_title(m.made_for, titles)}"
    return CONDITIONS.get(m.condition, cell(m.condition))


def _triggered(m: Measurement, titles: Mapping[str, str]) -> str:
    title = _title(m.model, titles)
    return title if m.condition == "backdoor" else f"{title}, {_condition(m, titles)}"


def _clean(rows: Sequence[Measurement]) -> list[Measurement]:
    """The clean accuracy over the most images: not the one over a single class."""
    clean = [m for m in rows if m.metric == "clean_accuracy"]
    return [max(clean, key=lambda m: m.value.n)] if clean else []


KINDS = {"clean_accuracy": "clean", "backdoor_success_rate": "backdoor"}


def _bar(m: Measurement, label: str, published: Mapping[str, float]) -> Bar | None:
    rate = m.value
    if rate.value is None or rate.ci_low is None or rate.ci_high is None:
        return None
    text, mark = measurement(m), published.get(m.id)
    return Bar(
        label=label,
        value=round(100 * rate.value, 3),
        low=round(100 * rate.ci_low, 3),
        high=round(100 * rate.ci_high, 3),
        short=text.short,
        full=str(text),
        word=text.word,
        kind=KINDS.get(m.metric, "robust"),
        published=None if mark is None else round(100 * mark, 3),
    )


def _published(report: Report) -> dict[str, float]:
    """Measurement id to the published share that it reproduces."""
    return {
        row.same_protocol.id: row.published.value
        for row in reversed(report.reproduction)
        if row.same_protocol and row.published.unit == "share" and row.published.value is not None
    }
