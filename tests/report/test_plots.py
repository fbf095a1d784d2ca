"""Pictures: right size, the same bytes for the same numbers, and no trace of the user's settings."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from secure_ai.core.results import rate, rate_or_reason
from secure_ai.report.render import png as plots

R = rate(59, 1000)
OTHER = rate(992, 1000)
NONE = rate_or_reason(0, 0, "no images")
IMAGES = np.linspace(0, 1, 3 * 28 * 28, dtype=np.float32).reshape(3, 1, 28, 28)

PICTURES: dict[str, Callable[[], bytes]] = {
    "confusion": lambda: plots.confusion_png([[90, 10, 0], [0, 99, 1], [0, 3, 97]], "Baseline"),
    "history": lambda: plots.history_png({"training": [0.9, 0.98], "validation": [0.95, 0.97]}, "x", "accuracy"),
    "loss": lambda: plots.history_png({"training": [0.9]}, "x", "loss"),
    "bars": lambda: plots.bars_png({"clean": (OTHER, ""), "FGSM": (R, "doubtful"), "none": (NONE, "")}, "x"),
    "curve": lambda: plots.curve_png({"a": [(0.0, OTHER), (0.1, R), (0.2, NONE)], "b": [(0.0, R)]}, "x", "eps", "y"),
    "grid": lambda: plots.image_grid_png([("clean", IMAGES), ("change", IMAGES[:, 0] - 0.5)], "x", [["7", "1"], []]),
}  # fmt: skip


def size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        image.verify()
        return image.size


@pytest.mark.parametrize("name", PICTURES)
def test_same_numbers_same_bytes_whatever_the_settings(name: str) -> None:
    first = PICTURES[name]()
    width, height = size(first)
    assert 500 <= width <= 1600
    assert 300 <= height <= 1100
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        assert PICTURES[name]() == first


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("columns", [2, 12])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_perturbation_is_drawn_around_grey_or_white_and_warns_of_nothing(channels: int, columns: int) -> None:
    delta = np.random.default_rng(0).uniform(-0.01, 0.01, (columns, channels, 28, 28)).astype(np.float32)
    content = plots.image_grid_png([("perturbation, up to 0.01", delta)], "Adversarial examples for the network")
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    drawn = pixels[(pixels < 250).any(axis=2)]
    assert 90 < drawn.mean() < 230  # black would be near 0
    assert size(content)[0] >= 700


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("networks", [2, 12])
def test_a_matrix_of_any_size_is_drawn(networks: int) -> None:
    names = [f"network-{number}" for number in range(networks)]
    note = "fast, linf 8/255, n = 1,000; outlined: a network's own examples"
    content = plots.transfer_png([[R] * networks] * networks, names, "Accuracy by network and origin of examples", note)
    assert size(content)[0] >= 900


def test_no_version_or_time_in_the_file() -> None:
    with Image.open(io.BytesIO(PICTURES["bars"]())) as image:
        assert set(image.info) <= {"dpi"}


def test_other_numbers_other_pictures() -> None:
    assert plots.bars_png({"a": (R, "")}, "x") != plots.bars_png({"a": (OTHER, "")}, "x")
    assert plots.bars_png({"a": (R, "")}, "x") != plots.bars_png({"a": (R, "doubtful")}, "x")
    assert plots.bars_png({"a": (R, "")}, "x") != plots.bars_png({"a": (rate(59, 999), "")}, "x")  # indicative


def test_bar_names_break_at_line_breaks_and_colons() -> None:
    assert plots.bars_png({"P: own\nFGSM": (R, "")}, "x") == plots.bars_png({"P:\nown\nFGSM": (R, "")}, "x")
    assert plots.bars_png({"P own FGSM": (R, "")}, "x") != plots.bars_png({"P:\nown\nFGSM": (R, "")}, "x")


@pytest.mark.parametrize("text", ["$x^2$ costs 5 $", "a\nb\x1b[31m", "<script>alert(1)</script>", "7 → 1 %"])
def test_hostile_titles_are_drawn_as_text(text: str) -> None:
    assert size(plots.confusion_png([[1, 0], [0, 1]], text))[0] > 0
    assert size(plots.bars_png({text: (R, "")}, text, text))[0] > 0


def test_global_settings_are_left_as_they_were() -> None:
    def visible() -> dict[str, Any]:
        return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}  # that one is lazy

    before = visible()
    PICTURES["history"]()
    assert visible() == before
