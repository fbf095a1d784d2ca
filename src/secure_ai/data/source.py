"""One text names any data: `mnist:test`, a folder, or an NPZ file, whole or a part of it."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import numpy as np

from secure_ai.core.errors import FileMissingError, FormatError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.data.dataset import Dataset
from secure_ai.data.folder import SPLITS, list_entries, load_folder
from secure_ai.data.idx_folder import FILES, is_idx_folder, load_idx_folder
from secure_ai.data.mnist import load_mnist
from secure_ai.data.npz import load_npz
from secure_ai.data.resize import refuse_size, with_size
from secure_ai.data.splits import first_n, sample_n

BUILT_IN = tuple(f"mnist:{split}" for split in FILES)
UNDERSTOOD = (
    "mnist:train or mnist:test; a folder with train-images-idx3-ubyte and so on; FILE.npz with x and y; "
    "a folder with one sub-folder of PNG or JPEG images a class"
)
_PART = re.compile(r"(?P<base>.+)(?P<kind>[:~])(?P<n>[0-9]{1,12})", re.ASCII | re.DOTALL)


def load_data(
    text: str,
    *,
    split: str = "test",
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    events: EventSink = ignore_event,
) -> Dataset:
    """The data that `text` names.

    `mnist:train`, `mnist:test`, or the path of an IDX folder, an image folder or an NPZ file. Then, optionally, `:N`:
    the first N images in file order (no random sample, and the note says so), or `~N`: a stratified random sample drawn
    with `seed`.

    Returns:
        images (N, C, H, W) uint8, labels (N,) int64, and the name, digest and note that reports carry.

    Args:
        split: "train", "test" or "val", for folders and files that hold several; `mnist:...` names its own.
        n: the same as `:N`.
        resize: every image to so many rows and columns; the note says so.

    Raises:
        UsageError: an unknown name or split, `n` beside another `:N` or `~N`, or more images than there are.
        FileMissingError, FormatError: no such path, or nothing this tool reads.
        And what the loaders raise.
    """
    if split not in SPLITS:
        raise UsageError("unknown split", where="--split", expected=SPLITS, got=split)
    if resize is not None:
        refuse_size(resize)
    base, kind, count = _parse(text, n)
    whole = _load(base, split, resize, events)
    dataset = whole
    if count is not None:
        dataset = sample_n(whole, count, seed) if kind == "~" else first_n(whole, count)
    if resize is not None and dataset.input_shape[1:] != (resize, resize):
        dataset = with_size(dataset, resize)
    if len(np.unique(dataset.labels)) == 1:
        events("data_warning", {"data": dataset.name, "warning": "all labels are equal"})
        note = "; ".join(part for part in (dataset.note, "all labels are equal") if part)
        dataset = dataset.select(np.arange(len(dataset)), note)
    record = {"data": dataset.name, "digest": dataset.digest, "n": len(dataset), "note": dataset.note}
    events("data_loaded", record)
    return dataset


def _parse(text: str, n: int | None) -> tuple[str, str, int | None]:
    """(base, ":" or "~", count); a path that exists is taken whole, whatever it ends with."""
    part = None if _is_path(text) else _PART.fullmatch(text)
    if part is None:
        return text, ":", n
    kind, count = part["kind"], int(part["n"])
    if n is not None and (n != count or kind == "~"):
        raise UsageError("two different numbers of samples", where="--data and --n", expected="one", got=f"{text}, {n}")
    return part["base"], kind, count


def _is_path(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):  # too long, or a NUL in it
        return False


def _load(base: str, split: str, resize: int | None, events: EventSink) -> Dataset:
    if base in BUILT_IN:
        return load_mnist(base.partition(":")[2], events=events)
    path = Path(base)
    if not _is_path(base):
        close = difflib.get_close_matches(base, BUILT_IN, n=1, cutoff=0.7)
        if close or base.startswith("mnist"):
            hint = f"did you mean {close[0]}?" if close else ""
            raise UsageError("unknown data", where="--data", expected=UNDERSTOOD, got=base, hint=hint)
        raise FileMissingError("no such file or folder", where=base, expected=UNDERSTOOD)
    if not path.is_dir():
        return load_npz(path, split=split)
    folder = path.resolve()
    if is_idx_folder(folder):
        return load_idx_folder(folder, split=split, events=events)
    if not list_entries(folder)[0]:
        raise FormatError("neither MNIST's four files nor class folders", where=base, expected=UNDERSTOOD)
    return load_folder(folder, split=split, resize=resize, events=events)
