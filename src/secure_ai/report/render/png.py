"""Pictures of results as PNG bytes: colour-blind safe, readable at half size, the same bytes for the same numbers.

Only matplotlib's object interface is used (no pyplot, no global figures), and it is imported when a picture is made.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from secure_ai.core.results import Rate
from secure_ai.report.render.confusion import Counts, accuracy
from secure_ai.report.render.text import Written, cell, percent, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Okabe and Ito's palette (jfly.uni-koeln.de/color), told apart in every common form of colour blindness.
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":", "-", "--")
INK, MUTED, GRID = "#1a1d21", "#5c6670", "#e3e7eb"
DPI = 144
MOST_TICKS = 8  # labels of a curve's points beside each other
TITLE_INCHES = 0.13  # of one bold character of a title
KEY_CHARACTERS = 44  # of a line of a key beside a picture
LEAST_COLUMNS = 4  # of a grid of images: room for its title
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@contextlib.contextmanager
def _figure(width: float, height: float, padding: float = 0.12) -> Iterator[Figure]:
    """A figure in inches under this module's style, whatever the user's matplotlibrc says."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), dpi=DPI)
        figure.set_layout_engine("constrained", h_pad=padding, w_pad=padding)
        yield figure


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # no version string: equal numbers, equal bytes
    return buffer.getvalue()


def _title(axes: Axes, title: str, subtitle: str = "") -> None:
    axes.set_title(_plain(title) + ("\n" if subtitle else ""), pad=8)
    if subtitle:
        axes.annotate(
            _plain(subtitle), (0, 1), (0, 8), "axes fraction", "offset points", color=MUTED, size=10, va="bottom"
        )


def _plain(text: str) -> str:
    """`text` as one line in which a dollar sign is a dollar sign, not the start of a formula."""
    return cell(text).replace("$", r"\$")


def _wrapped(text: str, width: float) -> str:
    """`text` broken into lines that fit a picture `width` inches wide, at the size of a title."""
    return textwrap.fill(_plain(text), max(20, int(width / TITLE_INCHES)))


def _lines(text: str) -> str:
    return "\n".join(_plain(line) for line in text.replace(": ", ":\n").split("\n"))


def confusion_png(confusion: Counts, title: str) -> bytes:
    """A confusion matrix: right predictions in blue by recall, wrong ones in orange by their share of the true class.

    Args:
        confusion: (K, K) counts, row = true label, column = prediction.
        title: what was predicted.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm

    counts = np.asarray(confusion, dtype=np.int64)
    classes = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(classes, dtype=bool)
    with _figure(6.4, 6.4) as figure:
        axes = figure.add_subplot()
        axes.imshow(np.ma.masked_where(~right, share), cmap="Blues", vmin=0, vmax=1.25)
        axes.imshow(np.ma.masked_where(right | (counts == 0), share), cmap="Oranges", norm=PowerNorm(0.5, 0, 0.8))
        _write_counts(axes, counts, share, right)
        axes.set(xticks=range(classes), yticks=range(classes))
        axes.set(xlabel="predicted", ylabel="true label")
        axes.set_xticks(np.arange(classes - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(classes - 1) + 0.5, minor=True)
        axes.grid(which="minor", color=GRID, linewidth=0.8)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        _title(axes, title, f"accuracy {written(accuracy(confusion))}")
        return _png(figure)


def _write_counts(axes: Axes, counts: NDArray[Any], share: NDArray[Any], right: NDArray[Any]) -> None:
    size = 10 if len(counts) <= 10 else 7
    for row, column in zip(*counts.nonzero(), strict=True):
        on_diagonal = bool(right[row, column])
        dark = share[row, column] > (0.6 if on_diagonal else 0.35)
        weight = "bold" if on_diagonal else "normal"
        text = axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", size=size, weight=weight)
        text.set_color("white" if dark else INK)


def history_png(curves: Mapping[str, Sequence[float]], title: str, ylabel: str) -> bytes:
    """One line a curve over the epochs, which count from 1.

    Args:
        curves: name to one value an epoch, e.g. `{"training": ..., "validation": ...}`.
        title: what was trained.
        ylabel: `accuracy` (shown in percent) or another quantity with its unit.
    """
    from matplotlib.ticker import MaxNLocator

    with _figure(6.4, 3.8) as figure:
        axes = figure.add_subplot()
        epochs = max((len(values) for values in curves.values()), default=1)
        for index, (name, values) in enumerate(curves.items()):
            colour, marker, line = SERIES[index % 6], MARKERS[index % 6], LINES[index % 6]
            axes.plot(
                range(1, len(values) + 1), values, line, color=colour, marker=marker, linewidth=2, markersize=6,
                label=_plain(name),
            )  # fmt: skip
        axes.set(xlabel="epoch", ylabel=_plain(ylabel), xlim=(0.8, epochs + 0.2))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if ylabel == "accuracy":
            _percent_axis(axes)
        axes.grid(axis="y", color=GRID)
        axes.set_axisbelow(True)
        if len(curves) > 1:
            axes.legend(loc="best")
        _title(axes, title)
        return _png(figure)


def _percent_axis(axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def bars_png(
    bars: Mapping[str, tuple[Rate, str]],
    title: str,
    ylabel: str = "accuracy",
) -> bytes:
    """One bar a rate with its 95 % interval, hatched where it is not to be trusted.

    Args:
        bars: name (a line break or `: ` breaks it) to the rate and the trust word of its verdict, which stands at the
            bar, as `indicative` does at too small an n; a rate without a value gets an empty place that says so.
        title: what is compared.
        ylabel: what the rates are.
    """
    with _figure(max(6.4, 1.5 * len(bars) + 1.2), 4.2) as figure:
        axes = figure.add_subplot()
        texts = [written(rate, word) for rate, word in bars.values()]
        for index, ((rate, _), text) in enumerate(zip(bars.values(), texts, strict=True)):
            _bar(axes, index, rate, text)
        names = [_lines(name) for name in bars]
        axes.set(xticks=range(len(bars)), xticklabels=names, ylabel=_plain(ylabel))
        axes.set_ylim(0, 1.24 if any(text.word for text in texts) else 1.12)  # room for the trust words
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        room = max(0.6, 2 - len(bars) / 2)  # two bars are no wider than four
        axes.set_xlim(-room, len(bars) - 1 + room)
        _percent_axis(axes)
        axes.grid(axis="y", color=GRID)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", length=0)
        _title(axes, title)
        return _png(figure)


def _bar(axes: Axes, place: int, rate: Rate, written_rate: Written) -> None:
    if rate.value is None or rate.ci_low is None or rate.ci_high is None:
        axes.text(place, 0.03, "not measured", ha="center", color=MUTED, size=10, rotation=90, va="bottom")
        return
    value, low, high, word = rate.value, rate.ci_low, rate.ci_high, written_rate.word
    look: dict[str, Any] = {"facecolor": "#fbe3d3", "edgecolor": VERMILION, "hatch": "//"} if word else {"color": BLUE}
    axes.bar(place, value, width=0.62, **look)
    whiskers = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axes.errorbar(place, value, whiskers, color=INK, capsize=5, linewidth=1.6)
    text = f"{percent(value, 2 if 0 < value < 0.01 else 1)}\n{word}".rstrip()
    annotation = axes.annotate(text, (place, high), (0, 6), "data", "offset points", ha="center", va="bottom")
    annotation.set(weight="bold", linespacing=1.3)


def curve_png(
    curves: Mapping[str, Sequence[tuple[float, Rate]]],
    title: str,
    xlabel: str,
    ylabel: str,
    ticks: Mapping[float, str] | None = None,
) -> bytes:
    """Rates over a grid, e.g. robust accuracy over eps, each with its 95 % band.

    Args:
        curves: name to (x, R) in ascending x.
        title: what is shown.
        xlabel: quantity and unit of x.
        ylabel: what the rates are.
        ticks: x to how it is written, e.g. 8/255; of many some are shown. None: round numbers.
    """
    with _figure(6.4, 4.0) as figure:
        axes = figure.add_subplot()
        for index, (name, points) in enumerate(curves.items()):
            known = [
                (place, r.value, r.ci_low, r.ci_high)
                for place, r in points
                if r.value is not None and r.ci_low is not None and r.ci_high is not None
            ]
            x, shares, low, high = ([point[part] for point in known] for part in range(4))
            colour = SERIES[index % 6]
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(
                x, shares, LINES[index % 6], color=colour, marker=MARKERS[index % 6],
                linewidth=2, label=_plain(name),
            )  # fmt: skip
        axes.set(xlabel=_plain(xlabel), ylabel=_plain(ylabel), ylim=(-0.02, 1.02))
        if ticks:
            shown = list(ticks.items())[:: 1 + len(ticks) // MOST_TICKS]
            axes.set_xticks([x for x, _ in shown], [_plain(text) for _, text in shown])
        _percent_axis(axes)
        axes.grid(color=GRID)
        axes.set_axisbelow(True)
        if len(curves) > 1:
            axes.legend(loc="best")
        _title(axes, title)
        return _png(figure)


def frontier_png(rows: Sequence[tuple[str, Rate, Rate, float]], title: str) -> bytes:
    """What each defence keeps and costs: clean and robust accuracy with intervals, beside seconds, the first on top.

    Args:
        rows: name, clean accuracy, robust accuracy, seconds of training; those without a rate are left out.
        title: what is shown.
    """
    from matplotlib.ticker import PercentFormatter

    known = [row for row in rows if row[1].value is not None and row[2].value is not None]
    places = range(len(known))
    with _figure(9.6, 1.6 + 0.46 * len(known)) as figure:
        kept, spent = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        clean, robust = [row[1].bounds for row in known], [row[2].bounds for row in known]
        for x, colour, marker in ((clean, BLUE, "o"), (robust, VERMILION, "s")):
            ends = [[max(0.0, one.value - one.low) for one in x], [max(0.0, one.high - one.value) for one in x]]
            kept.errorbar([one.value for one in x], places, xerr=ends, fmt=marker, color=colour, capsize=3)
        kept.set_yticks(places, [textwrap.fill(_plain(row[0]), KEY_CHARACTERS) for row in known])
        kept.set(xlabel="accuracy", ylim=(len(known) - 0.4, -0.6))
        kept.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        spent.barh(places, [row[3] for row in known], height=0.5, color=MUTED)
        for place, row in enumerate(known):
            spent.annotate(f"{row[3]:,.0f}", (row[3], place), (4, 0), "data", "offset points", va="center")
        spent.set(xlabel="seconds of training", xticks=[])
        spent.margins(x=0.3)
        spent.spines["bottom"].set_visible(False)
        for axes in (kept, spent):
            axes.tick_params(axis="y", length=0)
            axes.set_axisbelow(True)
        kept.grid(color=GRID)
        _title(kept, title, "circle: clean, square: robust, with 95 % intervals")
        return _png(figure)


def transfer_png(rates: Sequence[Sequence[Rate]], networks: Sequence[str], title: str, note: str) -> bytes:
    """A transfer matrix: row = network the examples were made for, column = network they were scored on.

    Args:
        rates: K rows of K rates (R); dark = accuracy kept. The diagonal, a network's own examples, is outlined.
        networks: K names.
        title: what is shown.
        note: how the examples were made, and n.
    """
    import numpy as np
    from matplotlib.patches import Rectangle

    size = len(networks)
    shares = np.array([[np.nan if rate.value is None else rate.value for rate in row] for row in rates])
    width = max(6.4, 2.4 + 1.35 * size)
    with _figure(width, 2.6 + 0.85 * size) as figure:
        axes = figure.add_subplot()
        axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(size, size):
            rate = rates[row][column]
            dark = rate.value is not None and rate.value > 0.55
            text = axes.text(column, row, _matrix_cell(rate), ha="center", va="center", size=10, linespacing=1.35)
            text.set_color("white" if dark else INK)
            if row == column:
                axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, fill=False, ec=VERMILION, lw=2.2))
        names = [_plain(name).replace("/", "/\n") for name in networks]
        axes.set(xticks=range(size), yticks=range(size), xticklabels=names, yticklabels=names)
        axes.set(xlabel="scored on", ylabel="examples made for")
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        figure.suptitle(_wrapped(title, width), x=0.01, ha="left", size=13, weight="bold")
        axes.set_title(_wrapped(note, 1.2 * width), size=10, weight="normal", color=MUTED, loc="left")
        return _png(figure)


def _matrix_cell(rate: Rate) -> str:
    if rate.value is None or rate.ci_low is None or rate.ci_high is None:
        return "not\nmeasured"
    return f"{percent(rate.value, 1)}\n[{100 * rate.ci_low:.1f}, {100 * rate.ci_high:.1f}]"


def image_grid_png(
    rows: Sequence[tuple[str, NDArray[Any]]], title: str, captions: Sequence[Sequence[str]] | None = None
) -> bytes:
    """Rows of images, e.g. clean, perturbation, attacked.

    Args:
        rows: (name, images), images (N, H, W) or (N, C, H, W) with C 1 or 3; uint8, or float in [0, 1]. A row whose
            values go below 0 (a perturbation) is drawn around 0: in blue and red where C is 1, else each channel around
            grey, magnified to its own largest value.
        title: what is shown.
        captions: a text under each image, in the shape of `rows`, e.g. the predictions.
    """
    import numpy as np

    columns = max(LEAST_COLUMNS, *(len(images) for _, images in rows))
    width = 1.15 * columns + 0.1 * max(len(name) for name, _ in rows) + 0.3
    with _figure(width, 1.35 * len(rows) + 0.7, padding=0.05) as figure:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for index, (name, images) in enumerate(rows):
            for place in range(columns):
                axes = grid[index][place]
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if place < len(images):
                    _draw_image(axes, np.asarray(images[place]))
                if captions and place < len(captions[index]):
                    axes.set_xlabel(_plain(captions[index][place]), size=10, labelpad=3)
            grid[index][0].set_ylabel(_plain(name), rotation=0, ha="right", va="center", labelpad=10, weight="bold")
        figure.suptitle(_wrapped(title, width), x=0.01, ha="left", size=13, weight="bold")
        return _png(figure)


def _draw_image(axes: Axes, image: NDArray[Any]) -> None:
    pixels = image.transpose(1, 2, 0) if image.ndim == 3 else image
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if pixels.dtype.kind == "f" and pixels.ndim == 3 and float(pixels.min(initial=0.0)) < 0:
        pixels = 0.5 + pixels / (2 * float(abs(pixels).max()))  # no colour map for colours
    if pixels.dtype.kind == "f" and float(pixels.min(initial=0.0)) < 0:
        bound = 1.6 * float(abs(pixels).max())  # the ends of the colour map are too dark to tell apart
        axes.imshow(pixels, cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
        return
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255 if pixels.dtype.kind == "u" else 1, interpolation="nearest")
