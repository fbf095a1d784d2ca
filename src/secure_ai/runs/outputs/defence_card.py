"""The defence card: every trained network side by side, and the points of its picture. Made of typed results only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from secure_ai.core.comparisons import Comparison, Distance
from secure_ai.core.labels import class_text
from secure_ai.core.result import Model, PerSample
from secure_ai.core.results import MeasuredQuantity, Measurement, Quantity, Rate, of_effective, rate
from secure_ai.core.sections import Cell, Column, Ref, Section
from secure_ai.data.dataset import Dataset
from secure_ai.runs.stages.entries import unpacked

ROLES = ("baseline", "defended")
ATTACKS = ("fgsm", "pgd", "suite")
COLUMNS = (
    Column("model", "network"), Column("clean", "clean"), Column("attack-budget", "attacked within"),
    Column("fgsm", "FGSM"), Column("pgd", "PGD"), Column("suite", "suite, worst case"),
    Column("certified-budget", "certified within"), Column("certified", "certified"),
    Column("trust", "trust of the suite"), Column("p", "p, McNemar"),
    Column("distance", "median distance"),
    Column("seconds", "training"), Column("latency", "latency of an image"), Column("calibration", "calibration error"),
)  # fmt: skip
INTRO = (
    "Every trained network on the same test images: what a defence keeps under attack, and what it costs. Read the "
    "suite's column, not that of one attack. Only rows with the same budget can be compared; others have no p-value "
    "(McNemar against the baseline, Holm)."
)

CLASS_INTRO = "Accuracy of each class in the suite's worst case, within the budgets of the defence card."


@dataclass(frozen=True, slots=True)
class Point:
    """One network of the picture, its budget in the title: clean and robust accuracy, and what its training took."""

    title: str
    clean: Rate
    robust: Rate
    seconds: float


def defence_card(
    models: Sequence[Model],
    measurements: Sequence[Measurement],
    quantities: Sequence[MeasuredQuantity],
    comparisons: Sequence[Comparison],
    distances: Sequence[Distance],
) -> tuple[Section, ...]:
    """The card as one section, or none. Columns that say nothing of any network are left out."""
    shown = _shown(models)
    if not shown:
        return ()
    rates = {entry.id: entry for entry in measurements}
    numbers = {entry.id: entry for entry in quantities}
    compared = {entry.after: entry for entry in comparisons}
    medians = {entry.model: entry for entry in distances}
    rows = tuple(_row(model, rates, numbers, compared, medians) for model in shown)
    told = [i for i in range(len(COLUMNS)) if any(row[i] is not None for row in rows)]
    columns, cells = tuple(COLUMNS[i] for i in told), tuple(tuple(row[i] for i in told) for row in rows)
    return (Section("defences/card", "Defence card", INTRO, columns, cells, "by class: the table below"),)


def _shown(models: Sequence[Model]) -> list[Model]:
    """The rows of the card; none where fewer than two networks were trained or none was defended."""
    shown = [model for model in models if model.role in ROLES and model.file]
    return [] if len(shown) < 2 or all(model.role == "baseline" for model in shown) else shown


def class_card(models: Sequence[Model], per_sample: Sequence[PerSample], data: Dataset) -> tuple[Section, ...]:
    """Accuracy of each class in the suite's worst case, beside the card; none where no network met the suite.

    Args:
        data: the images that the suite attacked.
    """
    kept = {entry.id: unpacked(entry) for entry in per_sample}
    classes = np.unique(data.labels).tolist()
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            Ref("model", model.id),
            *(
                of_effective(rate(int(robust[own].sum()), int(own.sum())), data.n_effective, len(data))
                for own in (data.labels == label for label in classes)
            ),
        )
        for model in _shown(models)
        if (robust := kept.get(f"{model.id}/suite")) is not None
    )
    columns = (COLUMNS[0], *(Column(f"class-{label}", class_text(label, data.class_names)) for label in classes))
    return (Section("defences/classes", "Defence card by class", CLASS_INTRO, columns, rows),) if rows else ()


def _row(
    model: Model,
    rates: dict[str, Measurement],
    numbers: dict[str, MeasuredQuantity],
    compared: dict[str, Comparison],
    medians: dict[str, Distance],
) -> tuple[Cell, ...]:
    clean, certified = rates.get(f"{model.id}/clean"), rates.get(f"{model.id}/certified")
    attacked = {name: rates.get(f"{model.id}/{name}") for name in ATTACKS}
    suite = attacked["suite"] or attacked["pgd"]
    against = compared.get(f"{model.id}/suite") or compared.get(f"{model.id}/pgd")
    images = numbers.get(f"{model.id}/inference/images")
    took = numbers.get(f"{model.id}/inference/seconds")
    latency = None
    if images and took and images.value and took.value is not None:
        latency = Quantity(took.value / images.value * 1e3, "ms", n=int(images.value))
    median = medians.get(model.id)
    seconds = numbers.get(f"{model.id}/train/seconds")
    error = numbers.get(f"{model.id}/calibration/error")
    return (
        Ref("model", model.id),
        clean.value if clean else None,
        _budgets(attacked.values()),
        *(entry.value if entry else None for entry in attacked.values()),
        _budgets([certified]),
        certified.value if certified else None,
        str(suite.trust.verdict.value) if suite and suite.trust else None,
        f"{against.p_holm:.2g}" if against else None,
        Quantity(median.median, median.norm, median.ci_low, median.ci_high, median.n, median.infinite or "infinite")
        if median
        else None,
        seconds.quantity if seconds else None,
        latency,
        error.quantity if error else None,
    )


def _budgets(entries: Iterable[Measurement | None]) -> str | None:
    """E.g. `linf 0.3`."""
    return ", ".join(dict.fromkeys(str(entry.budget) for entry in entries if entry and entry.budget)) or None


def points(
    titles: Mapping[str, str], measurements: Sequence[Measurement], quantities: Sequence[MeasuredQuantity]
) -> tuple[Point, ...]:
    """The networks whose clean accuracy, robust accuracy (suite, else PGD) and training time were measured.

    Args:
        titles: by network id; baselines and defended networks.
    """
    rates = {entry.id: entry for entry in measurements}
    numbers = {entry.id: entry.value for entry in quantities}
    found = []
    for name, title in titles.items():
        clean, seconds = rates.get(f"{name}/clean"), numbers.get(f"{name}/train/seconds")
        robust = rates.get(f"{name}/suite") or rates.get(f"{name}/pgd")
        if clean and robust and seconds is not None:
            verdict = robust.trust.verdict.value if robust.trust else "reliable"
            marked = (title, _budgets([robust]), None if verdict == "reliable" else verdict)
            found.append(Point(", ".join(filter(None, marked)), clean.value, robust.value, seconds))
    return tuple(found)
