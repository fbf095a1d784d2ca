"""The pictures of a run. Drawn once for the same content, then taken from the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import resources

import numpy as np

from secure_ai.core.comparisons import Transfer
from secure_ai.core.labels import class_text
from secure_ai.core.results import Measurement, rate
from secure_ai.core.sections import EXAMPLE_FIELDS, Picture
from secure_ai.report.render import png
from secure_ai.runs.cases.case import Chart
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.engine.result_file import HISTORY_NAME
from secure_ai.runs.engine.store import Store, key_of
from secure_ai.runs.outputs.defence_card import ROLES, Point, points
from secure_ai.runs.outputs.facts import RunFacts

MATRIX_NAMES = {"transfer/matrix": "transfer_matrix", "assess/transfer": "transfer_matrix_subject"}

FRONTIER = "defence_frontier"
MOST_CAPTION = 14  # characters of a class's name under a picture

Draw = Callable[[], bytes]
Arrays = Mapping[str, np.ndarray]


@cache
def drawing_code() -> str:
    """SHA-256 of the code that draws: part of every picture's key."""
    return hashlib.sha256((resources.files("secure_ai") / "report" / "render" / "png.py").read_bytes()).hexdigest()


def pictures(facts: RunFacts) -> dict[str, bytes]:
    """PNG bytes by file name (without ending); a picture whose values were not measured is left out."""
    drawn: dict[str, bytes] = {}
    for case in CASES:
        for chart in case.charts:
            shown = _shown(chart, facts)
            if shown is not None:
                drawn[chart.name] = _kept(facts.execution.store, chart.name, *shown)
    own = {one.id: one.title for one in facts.plan.networks.values() if one.role in ("subject", "surrogate")}
    for entry in facts.result.transfers:
        name = MATRIX_NAMES.get(entry.id, entry.id.replace("/", "_"))
        content = repr((entry, own)).encode()
        drawn[name] = _kept(facts.execution.store, name, content, partial(_matrix, entry, own))
    for stage, result in facts.results.items():
        for picture in result.pictures:
            arrays = facts.arrays(stage)
            content = repr(picture).encode() + b"".join(arrays[name].tobytes() for name in picture.arrays)
            drawn[picture.id] = _kept(facts.execution.store, picture.id, content, partial(_drawn, picture, arrays))
    titles = {network.id: network.title for network in facts.plan.networks.values() if network.role in ROLES}
    frontier = points(titles, facts.result.measurements, facts.result.quantities)
    if len(frontier) > 1:
        drawn[FRONTIER] = _kept(facts.execution.store, FRONTIER, repr(frontier).encode(), partial(_frontier, frontier))
    return drawn


def _kept(store: Store, name: str, content: bytes, draw: Draw) -> bytes:
    key = key_of({"picture": name, "code": drawing_code(), "content": hashlib.sha256(content).hexdigest()})
    record = store.find(key) or store.put(f"picture/{name}", key, {"png": draw()}, 0.0)
    return store.blob(record.outputs["png"])


def _shown(chart: Chart, facts: RunFacts) -> tuple[bytes, Draw] | None:
    """What a case's chart shows, and how it is drawn; None where nothing of it was measured."""
    if chart.kind == "confusion":
        wanted = chart.shows[""]
        counts = next((entry.counts for entry in facts.result.confusions if entry.id == wanted), None)
        if counts is None:
            return None
        return repr((chart, counts)).encode(), partial(png.confusion_png, counts, chart.title)
    if chart.kind == "history":
        ((quantity, network),) = chart.shows.items()
        content = facts.output(network, HISTORY_NAME)
        return None if content is None else (content + chart.name.encode(), partial(_history, chart, quantity, content))
    rates = {entry.id: (entry.value, _verdict(entry)) for entry in facts.result.measurements}
    bars = {label: rates[name] for label, name in chart.shows.items() if name in rates}
    if not bars:
        return None
    return repr((chart.title, bars)).encode(), partial(png.bars_png, bars, chart.title, "fraction of images")


def _verdict(entry: Measurement) -> str:
    return entry.trust.verdict.value if entry.trust else ""


def _frontier(shown: tuple[Point, ...]) -> bytes:
    rows = [(point.title, point.clean, point.robust, point.seconds) for point in shown]
    return png.frontier_png(rows, "What a defence keeps, and what it costs")


def _history(chart: Chart, quantity: str, content: bytes) -> bytes:
    history = json.loads(content)
    curves = {"training": history[quantity]}
    if history[f"validation_{quantity}"]:
        curves["validation"] = history[f"validation_{quantity}"]
    return png.history_png(curves, chart.title, quantity)


def _matrix(entry: Transfer, titles: Mapping[str, str]) -> bytes:
    """Networks of the user's own by their titles."""
    budget = f"{entry.budget}, " if entry.budget else ""
    note = f"{entry.attack}, {budget}n = {entry.n:,}; outlined: a network's own examples"
    names = [titles.get(name) or name for name in entry.networks]
    return png.transfer_png(entry.rates, names, "Accuracy by network and origin of examples", note)


def _drawn(picture: Picture, arrays: Arrays) -> bytes:
    return {"examples": _examples, "curve": _curve}[picture.kind](picture, arrays)


def _curve(picture: Picture, arrays: Arrays) -> bytes:
    columns = [arrays[name] for name in picture.arrays]  # eps, successes, n
    points = [(float(eps), rate(int(successes), int(n))) for eps, successes, n in zip(*columns, strict=True)]
    ticks = dict(zip((eps for eps, _ in points), picture.labels, strict=True)) if picture.labels else None
    return png.curve_png({"worst case of the suite": points}, picture.title, "eps", "accuracy", ticks)


def _examples(picture: Picture, arrays: Arrays) -> bytes:
    rows: list[tuple[str, np.ndarray]] = []
    captions: list[list[str]] = []
    for number, title in enumerate(picture.labels):
        own = {name: arrays[f"{picture.id}-{number}-{name}"] for name in EXAMPLE_FIELDS}
        rows += grid_rows(own["clean"], own["x_adv"], title)
        captions += [_captions(own, which, picture.class_names) for which in ("clean", "", "adv")]
    return png.image_grid_png(rows, picture.title, captions)


def grid_rows(clean: np.ndarray, x_adv: np.ndarray, name: str) -> list[tuple[str, np.ndarray]]:
    """Clean, perturbation (magnified to its own largest value, around grey), adversarial."""
    delta = x_adv - clean
    largest = float(np.abs(delta).max())
    return [(f"{name}: clean", clean), (f"perturbation, up to {largest:.3g}", delta), ("adversarial", x_adv)]


def _captions(own: Arrays, which: str, names: Sequence[str]) -> list[str]:
    """Predicted class and confidence under each image; none under a perturbation."""
    if not which:
        return []
    pairs = zip(own[f"{which}_label"].tolist(), own[f"{which}_confidence"].tolist(), strict=True)
    return [f"{_short(class_text(label, names))} ({100 * confidence:.0f} %)" for label, confidence in pairs]


def _short(text: str) -> str:
    """As much of a class's name as fits under a picture."""
    return text if len(text) <= MOST_CAPTION else f"{text[: MOST_CAPTION - 1]}…"
