"""An image folder: one sub-folder a class, the classes in the order of their names."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from secure_ai.core.errors import (
    EmptyDataError,
    FileMissingError,
    FileUnreadableError,
    FormatError,
    ShapeError,
    SizeLimitError,
    UsageError,
)
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.data.dataset import MAX_CLASSES, MAX_DATA_BYTES, Dataset
from secure_ai.data.image_file import MAX_IMAGE_BYTES, DecodedImage, decode_image
from secure_ai.data.resize import resize_note, resized
from secure_ai.files.open import read_beneath

MAX_IMAGES = 200_000
SPLITS = ("train", "test", "val")
BESIDE = frozenset(
    [".txt", ".md", ".rst", ".db", ".ini", ".csv", ".tsv", ".json", ".xml", ".html", ".yaml", ".yml", ".log"]
)
BESIDE_NAMES = frozenset(("readme", "license", "__macosx"))
"""What lies beside images and is none: skipped and counted. Anything else must be an image."""


def load_folder(
    folder: Path, *, split: str = "test", resize: int | None = None, events: EventSink = ignore_event
) -> Dataset:
    """The images below `folder`: FOLDER/CLASS/IMAGE, or FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE.

    Classes are numbered in the order of their names (by code point), those of both splits together, so that a split
    which lacks a class numbers the others alike; images stand in that order too. Names that begin with a dot are
    skipped; text files and the like beside images are, too, and counted in the data set's note. A grey image among
    colour ones gets three equal channels, which is counted as well.
    Links are refused. How stored modes become pixels: `image_file.CONVERSIONS`.

    Args:
        split: which sub-folder, where `folder` holds only `train`, `test` and `val` (in any case, also `valid` and
            `validation`); without meaning otherwise.
        resize: every image to so many rows and columns (`resized`); None: all must have one size.

    Returns:
        images (N, C, H, W) uint8, C 1 or 3.

    Raises:
        UsageError, FileMissingError: no such split.
        FormatError: something that is neither a class folder nor an image, or no class folders at all.
        EmptyDataError: a class without images.
        ShapeError: images of different sizes.
        SizeLimitError: too many classes, images or pixels.
        ImageError and the errors of `read_beneath`: one image cannot be read.
    """
    if split not in SPLITS:
        raise UsageError("unknown split", where="split", expected=SPLITS, got=split)
    (folders, _), _ = _split_beside(list_entries(folder))
    name = folder.name
    sides = {_split_of(inner): inner for inner in folders}
    is_split = len(sides) == len(folders) > 0 and set(sides) <= set(SPLITS)
    if is_split and any(list_entries(folder / inner)[0] for inner in folders):
        if split not in sides:
            hint = f"--split {next(iter(sides))}"
            raise FileMissingError("this folder has no such split", where=name, expected=split, got=folders, hint=hint)
        every = sorted({inner for side in folders for inner in list_entries(folder / side)[0]})
        folder, name = folder / sides[split], f"{name}:{split}"
    else:
        every = folders
    classes, skipped = _class_files(folder)
    images, labels, grey = _decode_all(folder, classes, every, resize, events)
    notes = [f"{skipped} files beside the images skipped"] if skipped else []
    notes += [f"{grey} grey images among colour ones got three equal channels"] if grey else []
    notes += [resize_note(resize)] if resize else []
    return Dataset(images, labels, name, len(every), "; ".join(notes), class_names=tuple(every))


def _split_of(name: str) -> str:
    lower = name.lower()
    return "val" if lower in ("valid", "validation") else lower


def _split_beside(entries: tuple[list[str], list[str]]) -> tuple[tuple[list[str], list[str]], int]:
    """Folders and files without what lies beside images, and how much that is."""
    kept = tuple([name for name in names if not _is_beside(name)] for names in entries)
    return (kept[0], kept[1]), sum(map(len, entries)) - sum(map(len, kept))


def _is_beside(name: str) -> bool:
    return name.lower() in BESIDE_NAMES or PurePath(name).suffix.lower() in BESIDE


def list_entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of sub-folders, and of everything else, each in order; a link counts as something else."""
    folders: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
                if len(folders) + len(others) > MAX_IMAGES:
                    raise SizeLimitError("too many entries", where=folder.name, expected=f"<= {MAX_IMAGES}")
    except OSError as error:
        raise FileUnreadableError("the folder cannot be read", where=folder.name, got=error.strerror) from None
    return sorted(folders), sorted(others)


def _is_image(folder: Path, path: str) -> bool:
    """Whether a file is a PNG or JPEG by its content, whatever its name."""
    return read_beneath(folder, path, max_bytes=MAX_IMAGE_BYTES).content.startswith((b"\x89PNG", b"\xff\xd8\xff"))


def _class_files(folder: Path) -> tuple[dict[str, list[str]], int]:
    """The files of every class, and how many were skipped."""
    (folders, others), skipped = _split_beside(list_entries(folder))
    if others:
        raise FormatError("not a class folder", where=folder.name, expected="only folders, one a class", got=others[0])
    if not folders:
        raise EmptyDataError("no class folders", where=folder.name, expected="FOLDER/CLASS/IMAGE.png")
    if len(folders) > MAX_CLASSES:
        raise SizeLimitError("too many classes", where=folder.name, expected=f"<= {MAX_CLASSES}", got=len(folders))
    files: dict[str, list[str]] = {}
    for name in folders:
        inner, every = list_entries(folder / name)
        inner = [entry for entry in inner if not _is_beside(entry)]
        files[name] = [file for file in every if not _is_beside(file) or _is_image(folder, f"{name}/{file}")]
        skipped += len(every) - len(files[name])
        if inner:
            where = f"{folder.name}/{name}"
            raise FormatError("a folder inside a class folder", where=where, expected="only images", got=inner[0])
        if not files[name]:
            raise EmptyDataError("a class without images", where=name, expected="at least one PNG or JPEG")
    total = sum(len(names) for names in files.values())
    if total > MAX_IMAGES:
        raise SizeLimitError("too many images", where=folder.name, expected=f"<= {MAX_IMAGES}", got=total)
    return files, skipped


def _decode_all(
    folder: Path, classes: dict[str, list[str]], every: list[str], resize: int | None, events: EventSink
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], np.ndarray[tuple[int, ...], np.dtype[np.int64]], int]:
    """Images, labels, and how many grey images stand among colour ones."""
    number = {name: label for label, name in enumerate(every)}
    paths = [(number[name], f"{name}/{file}") for name in classes for file in classes[name]]
    first = _decode_one(folder, paths[0][1], resize)
    if first.pixels.size * len(paths) > MAX_DATA_BYTES:
        raise SizeLimitError("too much data", where=folder.name, expected=f"<= {MAX_DATA_BYTES} bytes of pixels")
    images = np.empty((len(paths), *first.pixels.shape), dtype=np.uint8)
    modes: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    grey = 0
    for position, (_, path) in enumerate(paths):
        image = _decode_one(folder, path, resize)
        if image.pixels.shape[1:] != first.pixels.shape[1:]:
            expected, got = first.pixels.shape, image.pixels.shape
            hint = f"--resize {min(expected[1:])} makes all of one size"
            raise ShapeError("the images differ in size", where=path, expected=expected, got=got, hint=hint)
        channels = len(image.pixels)
        grey += channels == 1
        if channels > images.shape[1]:  # the first colour image
            if 3 * images.nbytes > MAX_DATA_BYTES:
                raise SizeLimitError(
                    "too much data", where=folder.name, expected=f"<= {MAX_DATA_BYTES} bytes of pixels"
                )
            images = np.repeat(images, 3, axis=1)
        images[position] = image.pixels  # one channel becomes three equal ones
        modes[image.stored_mode] += 1
        unused.update(image.unused)
    events("images_decoded", {"folder": folder.name, "stored_modes": dict(modes), "not_used": dict(unused)})
    return images, np.array([label for label, _ in paths], dtype=np.int64), grey if images.shape[1] == 3 else 0


def _decode_one(folder: Path, path: str, resize: int | None) -> DecodedImage:
    image = decode_image(read_beneath(folder, path, max_bytes=MAX_IMAGE_BYTES))
    return image if resize is None else replace(image, pixels=resized(image.pixels, resize))
