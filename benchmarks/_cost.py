"""How seconds and memory grow with images, epochs, image side and network width: one fresh process a point."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _package import (
    TRAINING_REPLICAS,
    Dataset,
    NetworkTarget,
    PerturbationBudget,
    TrainingPlan,
    configure,
    constant,
    evaluate,
    generator,
    keras_initialise,
    load_mnist,
    natural,
    parse_attacks,
    release_memory,
    run_suite,
    sample_n,
    train,
)

if TYPE_CHECKING:
    from pipeline import Bench

EPS = 1e-4  # next to nothing is broken, so every attack does all it may do: the most that images can cost


@dataclass(frozen=True, slots=True)
class Axis:
    """Four points, what the line is drawn against, and sizes of the rest."""

    points: tuple[float, ...]
    small: tuple[float, ...]
    against: str
    rest: Mapping[str, float]


TRAIN_REST = {"images": 12_000, "epochs": 1, "side": 28, "width": 1.0}
ATTACK_REST = {"images": 64, "side": 28, "width": 1.0}
SMALL_REST = {"train": 128, "attack": 2}  # images of a smoke test
SIDES = (14, 28, 42, 56)
WIDTHS = (0.5, 1.0, 1.5, 2.0)
PRODUCTS = "mega_multiply_adds"
AXES: dict[tuple[str, str], Axis] = {
    ("train", "images"): Axis((15_000, 30_000, 45_000, 60_000), (128, 256, 384, 512), "images", TRAIN_REST),
    ("train", "epochs"): Axis((1, 2, 3, 4), (1, 2, 3, 4), "epochs", TRAIN_REST),
    ("train", "side"): Axis(SIDES, SIDES, PRODUCTS, TRAIN_REST),
    ("train", "width"): Axis(WIDTHS, WIDTHS, PRODUCTS, TRAIN_REST),
    ("attack", "images"): Axis((64, 128, 192, 256), (1, 2, 3, 4), "images", ATTACK_REST),
    ("attack", "side"): Axis(SIDES, SIDES, PRODUCTS, ATTACK_REST),
    ("attack", "width"): Axis(WIDTHS, WIDTHS, PRODUCTS, ATTACK_REST),
}
"""(work, axis) -> its points. An attack has no epochs. Side and width change the work as they change the products of a
training step on one image, in millions of multiply-adds: with unpadded layers that is neither pixels nor width."""


def straight_line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """The least-squares line, its R^2, and the largest deviation of a point in percent of the largest value.

    R^2 says little where y hardly changes: a flat line has none to explain.
    """
    slope, intercept = np.polyfit(x, y, 1)
    line = slope * np.asarray(x) + intercept
    total = float(((np.asarray(y) - np.mean(y)) ** 2).sum())
    left = float(((np.asarray(y) - line) ** 2).sum())
    return {
        "slope": float(slope),
        "intercept": float(intercept),
        "r_squared": 1 - left / total if total > 0 else 1.0,
        "largest_deviation_percent": 100 * float(np.max(np.abs(np.asarray(y) - line)) / np.max(np.abs(y))),
    }


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """Images (N, 1, S, S) at another side, by the nearest pixel."""
    rows = np.arange(side) * images.shape[-1] // side
    return np.ascontiguousarray(images[:, :, rows][:, :, :, rows])


def build(side: int, width: float) -> Any:
    """A network of report 1's form."""
    from _products import Size
    from torch import nn

    size = Size(side, width)
    (c1, c2), hidden = size.channels, size.hidden
    network = nn.Sequential(
        nn.Conv2d(1, c1, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(c1, c2, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(size.maps[2] ** 2 * c2, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip
    keras_initialise(network, generator(0, "cost"))
    return network


def one(work: str, point: Mapping[str, float]) -> None:
    """In a process of its own: the work at one point; prints its seconds and peak memory as JSON."""
    compute = configure("auto")
    side, images = int(point["side"]), int(point["images"])
    whole = load_mnist("train")
    chosen = whole if images == len(whole) else sample_n(whole, images, 0)
    del whole
    dataset = Dataset(resized(chosen.images, side), np.array(chosen.labels), "resized", 10)
    network = build(side, point["width"])
    if work == "train":
        do = _training(network, dataset, int(point["epochs"]), compute.training_dtype)
    else:
        do = _attacking(network, dataset)
    _forget_peak()
    began = time.perf_counter()
    do()
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": round(seconds, 3), "peak_mib": round(_peak_mib(), 1)}))


def _forget_peak() -> None:
    """Loading and checking all of MNIST takes more memory than small work does: peaks from here on (Linux)."""
    release_memory()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mib() -> float:
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def _training(network: Any, dataset: Any, epochs: int, dtype: Any) -> Callable[[], object]:
    plan = TrainingPlan(
        epochs=epochs, batch_size=128, schedule=constant(1e-3), seed=0, adam_epsilon=1e-7, dtype=dtype,
        replicas=TRAINING_REPLICAS,
    )  # fmt: skip
    return lambda: train(network, dataset, method=natural, plan=plan)


def _attacking(network: Any, dataset: Any) -> Callable[[], object]:
    """`fast` on images whose labels are the network's own answers."""
    target = NetworkTarget(network.eval(), name="cost", digest="", input_shape=dataset.input_shape, num_classes=10)
    y, budget = evaluate(target, dataset.images, dataset.labels).predictions, PerturbationBudget("linf", EPS)
    return lambda: run_suite(target, dataset.images, y, budget=budget, attacks=parse_attacks("fast", "linf"), seed=0)


def measure(bench: Bench) -> None:
    """Every point, then the lines."""
    from _products import Size, multiply_adds, step_products

    points: dict[tuple[str, str], list[dict[str, Any]]] = {}
    small = bench.arguments.small
    for (work, axis), along in AXES.items():
        for value in along.small if small else along.points:
            point = {**along.rest, **({"images": SMALL_REST[work]} if small else {}), axis: value}
            sizes = {
                "images": point["images"],
                "epochs": point.get("epochs", 1),
                PRODUCTS: multiply_adds(step_products(1, Size(int(point["side"]), point["width"]))) / 1e6,
            }
            key = {"work": work, "axis": axis, "value": value, "against": along.against, "x": sizes[along.against],
                   "point": point}  # fmt: skip
            found = bench.measure("cost", key, functools.partial(bench.child, "cost", work, point))
            points.setdefault((work, axis), []).append(found)
    bench.add("cost-lines", [line for key, found in points.items() for line in lines(*key, found)])


def lines(work: str, axis: str, points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The fits of seconds and of peak memory along one axis."""
    x = [point["x"] for point in points]
    rows = []
    for what in ("seconds", "peak_mib"):
        fit = straight_line(x, [point[what] for point in points])
        rows.append(
            {"work": work, "axis": axis, "against": points[0]["against"], "what": what}
            | {name: float(f"{value:.4g}") for name, value in fit.items()}
        )
    return rows
