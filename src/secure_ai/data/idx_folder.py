"""A folder with MNIST's four files under either spelling, plain or gzipped: MNIST or a drop-in replacement."""

from __future__ import annotations

import os
from pathlib import Path

from secure_ai.core.errors import FileMissingError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.data.dataset import MAX_DATA_BYTES, Dataset
from secure_ai.data.idx import read_idx_images, read_idx_labels
from secure_ai.files.gz import is_gzip
from secure_ai.files.open import FileBytes, read_beneath

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SIZE = (28, 28)
CLASSES = 10


def spellings(name: str) -> tuple[str, str, str, str]:
    """The names under which one of the four files is known: "-idx" or ".idx", plain or ".gz"."""
    dotted = name.replace("-idx", ".idx")
    return (name, dotted, f"{name}.gz", f"{dotted}.gz")


def find_idx_file(folder: Path, name: str) -> str | None:
    """The first spelling of `name` that stands in `folder`, or None."""
    return next((spelling for spelling in spellings(name) if os.path.lexists(folder / spelling)), None)


def is_idx_folder(folder: Path) -> bool:
    """Whether any of the four files stands in `folder`."""
    return any(find_idx_file(folder, name) for pair in FILES.values() for name in pair)


def load_idx_folder(
    folder: Path,
    *,
    split: str,
    size: tuple[int, int] | None = SIZE,
    classes: int = CLASSES,
    events: EventSink = ignore_event,
) -> Dataset:
    """The images and labels of one split.

    Args:
        split: "train" or "test" (the files named t10k).
        size: (H, W) that the images must have; None for any.
        classes: labels must lie in [0, classes).

    Raises:
        UsageError: another split.
        FileMissingError: one of the two files is not there; and everything that the IDX readers raise.
    """
    if split not in FILES:
        raise UsageError("unknown split", where="split", expected=tuple(FILES), got=split)
    images, labels = (_read(folder, name, events) for name in FILES[split])
    return Dataset(
        read_idx_images(images, size=size),
        read_idx_labels(labels, classes=classes),
        f"{folder.name}:{split}",
        classes,
    )


def _read(folder: Path, name: str, events: EventSink) -> FileBytes:
    spelling = find_idx_file(folder, name)
    if spelling is None:
        raise FileMissingError("a file of the data set is missing", where=folder.name, expected=spellings(name))
    file = read_beneath(folder, spelling, max_bytes=MAX_DATA_BYTES)
    zipped = is_gzip(file.content)
    if zipped != spelling.endswith(".gz"):
        content = "gzip" if zipped else "not gzip"
        events("data_name_and_content_differ", {"file": spelling, "content": content, "used": "content"})
    return file
