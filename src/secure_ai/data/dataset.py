"""A data set as one frozen value: images, true labels, where each image stands in its file, and a digest of it all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import (
    EmptyDataError,
    LabelError,
    NonFiniteError,
    PairCountError,
    PixelRangeError,
    ShapeError,
    printable,
)
from secure_ai.core.results import Drawn
from secure_ai.data.near_copies import effective_n

Images = NDArray[Any]  # (N, C, H, W), uint8 or float32
Labels = NDArray[np.int64]
MAX_DATA_BYTES = 1024 * 1024 * 1024
MAX_CLASS_NAME = 200  # characters
MAX_CLASSES = 25_000  # ImageNet-21k has 21,843
CHANNELS = (1, 3)
_DRAWN = ("all", "stratified", "first")  # each says less about the whole source than the one before
_IN_ORDER: Labels = np.empty(0, dtype=np.int64)


def range_hint(low: float, high: float) -> str:
    """What to do about float pixels in [low, high] instead of [0, 1]."""
    if low >= 0.0 and high <= 255.0:
        return "divide by 255"
    return "give pixels before the normalisation, and its mean and std with the model: --mean and --std, mean= and std="


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their true labels. Arrays are read-only; the caller gives up the ones it passes in.

    Args:
        images: (N, C, H, W), uint8 in 0..255 or float32 in [0, 1]; N, C, H, W >= 1.
        labels: (N,) int64 in [0, classes).
        name: what reports call it, e.g. "mnist:test".
        classes: number of classes K.
        note: how these images were chosen, for people, e.g. "first 640, not a random sample"; empty for a whole file.
        indices: (N,) int64, position of each image in its file; 0..N-1 by default.
        drawn: how they were chosen, for decisions; `all` also for every image of a class or of a split.
        class_names: of the classes 0 to K - 1; empty where nobody names them.

    Raises:
        ShapeError, EmptyDataError, PairCountError, LabelError, PixelRangeError, NonFiniteError
    """

    images: Images
    labels: Labels
    name: str
    classes: int
    note: str = ""
    indices: Labels = field(default_factory=lambda: _IN_ORDER)
    drawn: Drawn = "all"
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every field, make the arrays read-only and every name one printable line."""
        object.__setattr__(self, "name", printable(self.name))
        names = tuple(printable(name, MAX_CLASS_NAME) for name in self.class_names)
        object.__setattr__(self, "class_names", names)
        if names and len(names) != self.classes:
            raise LabelError("not one name a class", where=self.name, expected=f"{self.classes} names", got=len(names))
        _check_images(self.images, self.name)
        _check_labels(self.labels, self.classes, self.name)
        if len(self.images) != len(self.labels):
            raise PairCountError(
                "images and labels differ in number",
                where=self.name,
                expected=f"{len(self.images)} labels",
                got=len(self.labels),
            )
        indices = np.arange(len(self.labels), dtype=np.int64) if self.indices is _IN_ORDER else self.indices
        if indices.shape != self.labels.shape or indices.dtype != np.int64:
            raise ShapeError("one index an image", where=self.name, expected=f"({len(self)},) int64", got=indices.shape)
        for key, array in (("images", self.images), ("labels", self.labels), ("indices", indices)):
            object.__setattr__(self, key, _frozen(array))

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return (channels, height, width)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over shape, dtype, pixels and labels; neither name nor note changes it."""
        header = f"secure-ai dataset 1\n{self.images.dtype.name} {self.images.shape} int64\n"
        digest = hashlib.sha256(header.encode())
        digest.update(self.images.data)
        digest.update(self.labels.data)
        return digest.hexdigest()

    @cached_property
    def n_effective(self) -> int:
        """How many independent samples these are worth: N, or fewer where images are near copies of others."""
        return effective_n(self.images)

    def select(self, indices: NDArray[np.integer[Any]], note: str, *, drawn: Drawn = "all") -> Dataset:
        """The images at `indices` (positions in this data set, each in [0, N)), in that order.

        Args:
            drawn: how `indices` were chosen. A random part of the first N is no random sample of the whole: of this
                and the data set's own, the one that says less stands.

        Raises:
            ShapeError: an index outside [0, N).
            EmptyDataError: no index.
        """
        if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= len(self)):
            raise ShapeError("an index lies outside the data", where=self.name, expected=f"0..{len(self) - 1}")
        images, labels = self.images[indices], self.labels[indices]
        drawn = max(self.drawn, drawn, key=_DRAWN.index)
        return Dataset(images, labels, self.name, self.classes, note, self.indices[indices], drawn, self.class_names)


def _check_images(images: Images, name: str) -> None:
    if images.ndim != 4:
        raise ShapeError("images need four dimensions", where=name, expected="(N, C, H, W)", got=images.shape)
    if images.shape[0] == 0:
        raise EmptyDataError("no images", where=name, expected="at least one")
    if images.size == 0:
        raise ShapeError("images without pixels", where=name, expected="C, H, W >= 1", got=images.shape)
    if images.dtype == np.uint8:
        return
    if images.dtype != np.float32:
        raise PixelRangeError("unsupported pixel type", where=name, expected="uint8 or float32", got=images.dtype)
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NonFiniteError("pixels hold NaN or infinity", where=name, expected="finite numbers in [0, 1]")
    if low < 0.0 or high > 1.0:
        raise PixelRangeError(
            "float pixels outside [0, 1]",
            where=name,
            expected="[0, 1]",
            got=f"[{low:g}, {high:g}]",
            hint=range_hint(low, high),
        )


def _check_labels(labels: Labels, classes: int, name: str) -> None:
    if labels.ndim != 1 or labels.dtype != np.int64:
        raise LabelError("labels need one dimension", where=name, expected="(N,) int64", got=labels.shape)
    if not 1 <= classes <= MAX_CLASSES:
        raise LabelError("unusable number of classes", where=name, expected=f"1..{MAX_CLASSES}", got=classes)
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        got = f"{int(labels.min())}..{int(labels.max())}"
        raise LabelError("a label lies outside the classes", where=name, expected=f"0..{classes - 1}", got=got)
