"""The kinds of trigger, one row each: their settings, what they do to an image, and which pixels they may change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import TriggerError

Value = int | float | str
Values = Mapping[str, Value]
Pixels = NDArray[np.float64]  # (N, C, H, W) in [0, 1]
Mask = NDArray[np.bool_]  # (H, W)
Region = tuple[slice, slice]

PLACES = ("top-left", "top-right", "bottom-left", "bottom-right", "center")
POSITION = re.compile(r"(0|[1-9][0-9]{0,5})x(0|[1-9][0-9]{0,5})", re.ASCII)
MAX_WHOLE = 999_999


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a kind: a whole number or a decimal in [low, high], or a place."""

    type: Literal["whole", "decimal", "place"]
    low: float = 0
    high: float = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of trigger.

    Attributes:
        settings: in the order in which they are spelled.
        paint: (pixels, settings) -> pixels with the trigger on them.
        covers: (settings, height, width) -> the pixels that may change. Raises TriggerError where it does not fit.
        idempotent: whether painting twice is painting once.
    """

    settings: Mapping[str, Setting]
    paint: Callable[[Pixels, Values], Pixels]
    covers: Callable[[Values, int, int], Mask]
    idempotent: bool
    example: str


def number(values: Values, name: str) -> float:
    """A setting that is a number."""
    return float(values[name])


def region(values: Values, height: int, width: int) -> Region:
    """The rows and columns that a square at `place` covers; without `size` it is one pixel.

    Raises:
        TriggerError: it does not fit the image.
    """
    size, place = int(values.get("size", 1)), str(values["place"])
    bottom, right = height - size, width - size
    corners = {
        "top-left": (0, 0),
        "top-right": (0, right),
        "bottom-left": (bottom, 0),
        "bottom-right": (bottom, right),
        "center": (bottom // 2, right // 2),
    }
    position = POSITION.fullmatch(place)
    row, column = (int(position[1]), int(position[2])) if position else corners[place]
    if not (0 <= row <= bottom and 0 <= column <= right):
        expected = f"{size}x{size} pixels inside {height}x{width}"
        raise TriggerError("the trigger does not fit the image", where="--trigger, place", expected=expected, got=place)
    return slice(row, row + size), slice(column, column + size)


def _square(values: Values, height: int, width: int) -> Mask:
    mask = np.zeros((height, width), dtype=bool)
    mask[region(values, height, width)] = True
    return mask


def _everywhere(values: Values, height: int, width: int) -> Mask:
    return np.ones((height, width), dtype=bool)


def _basis(values: Values, height: int, width: int) -> Mask:
    for name, size in (("row", height), ("column", width)):
        if number(values, name) >= size:
            expected = f"below {size}, of an image {height}x{width}"
            raise TriggerError("the image has no such frequency", where=f"--trigger, {name}", expected=expected,
                               got=values[name])  # fmt: skip
    return _everywhere(values, height, width)


def _clipped(pixels: Pixels) -> Pixels:
    return np.asarray(np.clip(pixels, 0, 1), dtype=np.float64)


def _patch(pixels: Pixels, values: Values) -> Pixels:
    """One brightness (BadNets, 1708.06733, section 3)."""
    rows, columns = region(values, *pixels.shape[2:])
    pixels[:, :, rows, columns] = number(values, "value")
    return pixels


def _checkerboard(pixels: Pixels, values: Values) -> Pixels:
    """White and black pixels in turn, the top-left one white."""
    rows, columns = region(values, *pixels.shape[2:])
    size = int(values["size"])
    pixels[:, :, rows, columns] = (np.add.outer(np.arange(size), np.arange(size)) + 1) % 2
    return pixels


def _blend(pixels: Pixels, values: Values) -> Pixels:
    """(1 - alpha) x + alpha times a random image, the same on every channel (Chen et al., 1712.05526, section 4.2)."""
    alpha = number(values, "alpha")
    mixed: Pixels = (1 - alpha) * pixels + alpha * noise(values, *pixels.shape[2:])
    return mixed


def _sinusoid(pixels: Pixels, values: Values) -> Pixels:
    """Add amplitude sin(2 pi column periods / width), clipped (SIG, 1902.11237, section 3)."""
    width = pixels.shape[3]
    wave = np.sin(2 * np.pi * np.arange(width) * number(values, "periods") / width)
    return _clipped(pixels + number(values, "amplitude") * wave)


def _frequency(pixels: Pixels, values: Values) -> Pixels:
    """Add amplitude times one basis image of the discrete cosine transform, clipped: low contrast everywhere."""
    height, width = pixels.shape[2:]

    def cosine(size: int, name: str) -> NDArray[np.float64]:
        wave: NDArray[np.float64] = np.cos(np.pi * (2 * np.arange(size) + 1) * number(values, name) / (2 * size))
        return wave

    basis = np.outer(cosine(height, "row"), cosine(width, "column"))
    return _clipped(pixels + number(values, "amplitude") * basis)


def _warp(pixels: Pixels, values: Values) -> Pixels:
    """A smooth random distortion (WaNet, 2102.10369, section 3.2).

    Note: `strength` is the mean displacement in pixels, and the field is interpolated linearly, not by a cubic.
    """
    height, width = pixels.shape[2:]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    grid = int(values["grid"])
    moved = []
    for axis, positions, size in ((0, rows, height), (1, columns, width)):
        knots = 2 * _uniform(int(values["seed"]), 2 * grid * grid).reshape(2, 1, 1, grid, grid)[axis] - 1
        at_rows = rows * (grid - 1) / max(height - 1, 1)
        field = _sampled(knots, at_rows, columns * (grid - 1) / max(width - 1, 1))[0, 0]
        field *= number(values, "strength") / max(float(np.abs(field).mean()), 1e-12)
        moved.append(np.clip(positions + field, 0, size - 1))
    return _sampled(pixels, *moved)


def _sampled(pixels: Pixels, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Pixels:
    """Bilinear interpolation of (N, C, H, W) at rows and columns, both (H', W')."""
    top = np.clip(np.floor(rows).astype(int), 0, max(pixels.shape[2] - 2, 0))
    left = np.clip(np.floor(columns).astype(int), 0, max(pixels.shape[3] - 2, 0))
    bottom, right = np.minimum(top + 1, pixels.shape[2] - 1), np.minimum(left + 1, pixels.shape[3] - 1)
    down, over = rows - top, columns - left
    above = pixels[:, :, top, left] * (1 - over) + pixels[:, :, top, right] * over
    below = pixels[:, :, bottom, left] * (1 - over) + pixels[:, :, bottom, right] * over
    return _clipped(above * (1 - down) + below * down)


def noise(values: Values, height: int, width: int) -> NDArray[np.float64]:
    """The random image (H, W) in [0, 1) of a `blend`."""
    return _uniform(int(values["seed"]), height * width).reshape(height, width)


def _uniform(seed: int, count: int) -> NDArray[np.float64]:
    """Raw bits of PCG64, which NumPy keeps stable between versions."""
    drawn: NDArray[np.float64] = np.random.PCG64(seed).random_raw(count).astype(np.float64) / 2.0**64
    return drawn


_SIZE, _PLACE = Setting("whole", 1, MAX_WHOLE), Setting("place")
_SEED = Setting("whole", 0, MAX_WHOLE)

KINDS: dict[str, Kind] = {
    "patch": Kind({"size": _SIZE, "place": _PLACE, "value": Setting("decimal")}, _patch, _square, True,
                  "patch:size=4:place=bottom-right:value=1"),
    "pixel": Kind({"place": _PLACE, "value": Setting("decimal")}, _patch, _square, True,
                  "pixel:place=3x3:value=1"),
    "checkerboard": Kind({"size": _SIZE, "place": _PLACE}, _checkerboard, _square, True,
                         "checkerboard:size=3:place=bottom-right"),
    "blend": Kind({"alpha": Setting("decimal", 1e-3), "seed": _SEED}, _blend, _everywhere, False,
                  "blend:alpha=0.2:seed=1"),
    "sinusoid": Kind({"amplitude": Setting("decimal", 1e-3), "periods": Setting("whole", 1, 1000)}, _sinusoid,
                     _everywhere, False, "sinusoid:amplitude=0.1:periods=6"),
    "frequency": Kind({"row": Setting("whole", 0, 1000), "column": Setting("whole", 0, 1000),
                       "amplitude": Setting("decimal", 1e-3)}, _frequency, _basis, False,
                      "frequency:row=5:column=5:amplitude=0.1"),
    "warp": Kind({"grid": Setting("whole", 2, 64), "strength": Setting("decimal", 1e-3, 10), "seed": _SEED}, _warp,
                 _everywhere, False, "warp:grid=4:strength=0.5:seed=1"),
}  # fmt: skip
