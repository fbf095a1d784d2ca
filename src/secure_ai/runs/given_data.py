"""Data in whatever form a caller of the Python API has it: a text of `--data`, arrays, tensors, a loader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils import data as torch_data

from secure_ai.core.errors import EmptyDataError, FormatError, ShapeError, SizeLimitError, UsageError
from secure_ai.core.events import EventSink
from secure_ai.data.dataset import MAX_DATA_BYTES, Dataset
from secure_ai.data.npz import dataset_from_arrays
from secure_ai.data.resize import refuse_size, with_size
from secure_ai.data.source import load_data
from secure_ai.data.splits import first_n

NAME = "given in Python"
PAIR = "(images, labels)"

Data: TypeAlias = str | Path | tuple[Any, Any] | Dataset | torch_data.Dataset[Any] | Iterable[Any]
"""A text of `--data`; `(x, y)`, tensors or arrays; a `torch.utils.data.Dataset` or `DataLoader`."""


def dataset_of(
    data: Data, *, split: str, n: int | None, resize: int | None = None, seed: int, events: EventSink
) -> Dataset:
    """`data` as a data set: images (N, C, H, W), uint8 or float32 in [0, 1], and labels (N,).

    Args:
        data: a text of `--data`; `(x, y)`; or what gives one `(image, label)` or one batch of them after another, each
            time in the same order: it is read twice, and compared by digest.
        n: the first n images.
        resize: every image to so many rows and columns; the note says so.

    Raises:
        EmptyDataError: nothing in it.
        FormatError: items that are no pairs.
        UsageError: another order, or other values, when it is read again.
        SizeLimitError: more than 1 GiB of images.
        And what `load_data` and `dataset_from_arrays` raise.
    """
    if isinstance(data, str | Path):
        return load_data(str(data), split=split, n=n, resize=resize, seed=seed, events=events)
    if isinstance(data, Dataset):
        dataset = data
    elif isinstance(data, tuple):
        x, y = _pair(data)
        dataset = dataset_from_arrays(_array(x), _labels(y), name=NAME)
    else:
        dataset = _collected(data, n)
    dataset = dataset if n is None else first_n(dataset, n)
    if resize is None:
        return dataset
    refuse_size(resize)
    return with_size(dataset, resize)


def _collected(source: Any, n: int | None) -> Dataset:
    """Everything that `source` gives, or the first `n` samples at least."""
    if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
        expected = "a text of --data, (x, y), a Dataset or a DataLoader"
        raise FormatError("not data", where="data", expected=expected, got=type(source).__name__)
    if isinstance(source, Iterator):
        raise UsageError("an iterator can be read only once", where="data", expected="a Dataset or a DataLoader",
                         got=type(source).__name__, hint="give the loader itself")  # fmt: skip
    images, labels, size, digest = [], [], 0, hashlib.sha256()
    for x, y in _batches(source, n):
        size += x.nbytes
        if size > MAX_DATA_BYTES:
            raise SizeLimitError("too many images", where="data", expected=f"at most {MAX_DATA_BYTES} bytes",
                                 got=f"more than {size} bytes", hint="n= takes the first n")  # fmt: skip
        images.append(x)
        labels.append(y)
        _add(digest, x, y)
    if not images:
        raise EmptyDataError(
            "no images", where="data", expected="at least one", got=f"an empty {type(source).__name__}"
        )
    again = hashlib.sha256()
    for x, y in _batches(source, n):
        _add(again, x, y)
    if again.digest() != digest.digest():
        hint = "shuffle=False and no random augmentation"
        raise UsageError("the data differs when it is read again", where="data", expected="one order, one content",
                         got=type(source).__name__, hint=hint)  # fmt: skip
    shapes = sorted({x.shape[1:] for x in images})
    if len(shapes) > 1:
        raise ShapeError("images of different sizes", where="data", expected=shapes[0], got=shapes[1])
    return dataset_from_arrays(np.concatenate(images), np.concatenate(labels), name=NAME)


def _batches(source: Any, n: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches x (B, ...), y (B,), until there are `n` samples; a single sample becomes a batch of one."""
    sized = hasattr(source, "__getitem__") and hasattr(source, "__len__")  # an index past the end may not raise
    items = (source[index] for index in range(len(source))) if sized else iter(source)
    count = 0
    for item in items:
        if n is not None and count >= n:
            return
        x, y = _pair(item)
        images, labels = _array(x), _labels(y)
        if labels.ndim == 0:
            images, labels = images[np.newaxis], labels[np.newaxis]
        if len(images) != len(labels):
            raise ShapeError("a batch of unequal lengths", where="data", expected=f"{len(images)} labels",
                             got=labels.shape)  # fmt: skip
        count += len(labels)
        yield images, labels


def _pair(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
        got = f"{type(item).__name__} of {len(item)}" if hasattr(item, "__len__") else type(item).__name__
        raise FormatError("not a pair", where="data", expected=PAIR, got=got)
    return item[0], item[1]


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        values = values.numpy()
    return np.asarray(values)


def _labels(values: Any) -> np.ndarray:
    array = _array(values)
    return array if array.size else array.astype(np.int64)  # an empty list is an array of floats


def _add(digest: Any, x: np.ndarray, y: np.ndarray) -> None:
    digest.update(f"{x.dtype} {x.shape[1:]} {y.dtype}".encode())
    digest.update(np.ascontiguousarray(x).data)
    digest.update(np.ascontiguousarray(y).data)
