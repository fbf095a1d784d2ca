"""A data set in one NPZ file: `x` pixels, `y` labels, nothing else; layout and range are decided by rule or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import (
    DataKeysError,
    FormatError,
    LabelError,
    NonFiniteError,
    PairCountError,
    PixelRangeError,
    ShapeError,
)
from secure_ai.data.dataset import CHANNELS, MAX_CLASSES, MAX_DATA_BYTES, Dataset, Images, Labels, range_hint
from secure_ai.files.npy import NpyLimits, read_npz
from secure_ai.files.open import read_file
from secure_ai.files.sniff import Format, sniff

KEYS = ("x", "y")
SPLIT_KEYS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))
"""Names of images and labels where a file holds several splits: Keras's own data sets, MedMNIST."""
SPLITS = ("train", "test", "val")
NAMES = "class_names"
LIMITS = NpyLimits(max_array_bytes=MAX_DATA_BYTES, max_dimensions=4, max_members=16)
DARKEST = 1 / 255  # a whole data set below one grey level has been divided by 255 once too often


def load_npz(path: Path, *, split: str = "test") -> Dataset:
    """The data set in the NPZ file at `path`: `x` as `pixels_from_array` takes it, `y` as `labels_from_array` does.

    `class_names`, an array of text, may name the classes in their order.

    Args:
        split: which images, where the file holds several splits by the names of Keras or MedMNIST.

    Raises:
        FormatError: not an NPZ file.
        DataKeysError: other arrays than `x` and `y` or those of splits, or not those of `split`.
        PairCountError: `x` and `y` differ in length.
        And what `read_file`, `read_npz` and the two functions raise.
    """
    file = read_file(path, max_bytes=MAX_DATA_BYTES)
    kind = sniff(file.content)
    if kind not in (Format.NPZ, Format.ZIP):
        hint = "np.savez(FILE, x=images, y=labels) writes one"
        raise FormatError("not an NPZ file", where=file.name, expected="an NPZ with x and y", got=kind, hint=hint)
    arrays = read_npz(file, limits=LIMITS, text=(NAMES,))
    class_names = tuple(arrays.pop(NAMES).tolist()) if NAMES in arrays else ()
    if arrays.keys() == set(KEYS):
        return dataset_from_arrays(arrays["x"], arrays["y"], name=file.name, class_names=class_names)
    for pair in SPLIT_KEYS:
        if arrays.keys() <= {name.format(side) for name in pair for side in SPLITS}:
            images, labels = (name.format(split) for name in pair)
            if {images, labels} <= arrays.keys():
                y = (
                    arrays[labels][:, 0]
                    if arrays[labels].ndim == 2 and arrays[labels].shape[1] == 1
                    else arrays[labels]
                )
                return dataset_from_arrays(arrays[images], y, name=f"{file.name}:{split}", class_names=class_names)
    raise DataKeysError(
        "other arrays than expected", where=file.name, expected=f"x and y, or x_{split} and y_{split}",
        got=sorted(arrays), hint="--split names another part" if any(s in n for n in arrays for s in SPLITS) else "",
    )  # fmt: skip


def dataset_from_arrays(x: NDArray[Any], y: NDArray[Any], *, name: str, class_names: tuple[str, ...] = ()) -> Dataset:
    """A data set of plain arrays; there are as many classes as names, else the largest label + 1. As `load_npz`."""
    labels = labels_from_array(y, where=f"{name}: y")
    if len(x) != len(labels):
        raise PairCountError("x and y differ in length", where=name, expected=f"{len(x)} labels", got=len(labels))
    classes = len(class_names) or int(labels.max()) + 1
    return Dataset(pixels_from_array(x, where=f"{name}: x"), labels, name, classes, class_names=class_names)


def pixels_from_array(x: NDArray[Any], *, where: str) -> Images:
    """Pixels as (N, C, H, W).

    The layout is told by the number of channels, 1 or 3: (N, H, W), (N, C, H, W) or (N, H, W, C).

    | type in the file | becomes | must lie in |
    |---|---|---|
    | uint8 | uint8 | 0..255 |
    | float32, float64 | float32 | [0, 1] |

    A set in which no pixel is above 1 (uint8) or 1/255 (float) is refused as scaled once too often, unless all is
    black.

    Raises:
        ShapeError: no layout fits, or two do.
        PixelRangeError, NonFiniteError: another type or range.
    """
    if x.dtype == np.uint8:
        if x.size and int(x.max()) == 1:
            raise PixelRangeError(
                "no uint8 pixel is above 1", where=where, expected="0..255", hint="multiply by 255, or save floats"
            )
        return np.ascontiguousarray(_channels_first(x, where))
    if x.dtype not in (np.float32, np.float64):
        hint = "save uint8 0..255, or float in [0, 1]"
        raise PixelRangeError("unsupported pixel type", where=where, expected="uint8 or float", got=x.dtype, hint=hint)
    images = _channels_first(x, where)
    low, high = float(x.min(initial=0.0)), float(x.max(initial=0.0))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NonFiniteError("pixels hold NaN or infinity", where=where, expected="finite numbers in [0, 1]")
    if low < 0.0 or high > 1.0:
        got = f"[{low:g}, {high:g}]"
        hint = range_hint(low, high)
        raise PixelRangeError("float pixels outside [0, 1]", where=where, expected="[0, 1]", got=got, hint=hint)
    if 0.0 < high <= DARKEST:
        hint = "were they divided by 255 twice?"
        raise PixelRangeError("no pixel is above 1/255", where=where, expected="[0, 1]", got=f"<= {high:g}", hint=hint)
    return np.ascontiguousarray(images, dtype=np.float32)


def _channels_first(x: NDArray[Any], where: str) -> NDArray[Any]:
    if x.ndim == 3:
        return x[:, np.newaxis]
    expected = "(N, H, W), (N, C, H, W) or (N, H, W, C) with C 1 or 3"
    if x.ndim != 4:
        raise ShapeError("images of an unknown layout", where=where, expected=expected, got=x.shape)
    first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    if first and last:
        hint = "both ends look like channels: save grey images as (N, H, W), or pad the width"
        raise ShapeError("the layout is ambiguous", where=where, expected=expected, got=x.shape, hint=hint)
    if not (first or last):
        raise ShapeError("images of an unknown layout", where=where, expected=expected, got=x.shape)
    return x if first else x.transpose(0, 3, 1, 2)


def labels_from_array(y: NDArray[Any], *, where: str) -> Labels:
    """Labels as (N,) int64. Floats, truth values and one-hot rows are refused, never rounded or guessed.

    Raises:
        LabelError: another type, more than one dimension, a negative label or one above 24,999.
    """
    if y.ndim != 1:
        if y.ndim == 2 and y.shape[1] > 1 and not _is_one_hot(y):
            what = "several labels an image are not supported"
            raise LabelError(what, where=where, expected="(N,), one class an image", got=y.shape)
        hint = "save y.argmax(axis=1)" if y.ndim == 2 and y.shape[1] > 1 else "save y.reshape(-1)"
        raise LabelError("labels need one dimension", where=where, expected="(N,)", got=y.shape, hint=hint)
    if y.dtype.kind not in "iu":
        raise LabelError("labels must be integers", where=where, expected="an integer type", got=y.dtype)
    low, high = int(y.min(initial=0)), int(y.max(initial=0))
    if low < 0 or high >= MAX_CLASSES:
        expected = f"0..{MAX_CLASSES - 1}"
        raise LabelError("a label is out of range", where=where, expected=expected, got=low if low < 0 else high)
    return y.astype(np.int64)


def _is_one_hot(y: NDArray[Any]) -> bool:
    """Whether every row holds one 1 and else 0."""
    return y.dtype.kind in "iufb" and bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())
