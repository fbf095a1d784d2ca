"""Images of another size than the network takes: resized to a square, in one stated way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import SizeLimitError, UsageError
from secure_ai.data.dataset import MAX_DATA_BYTES, Dataset
from secure_ai.data.splits import also

MAX_SIDE = 1024


def refuse_size(size: int) -> None:
    """Raises UsageError for a side that no image gets."""
    if not 1 <= size <= MAX_SIDE:
        raise UsageError("not a size", where="--resize", expected=f"1 to {MAX_SIDE}", got=size)


def resize_note(size: int) -> str:
    """What the report says."""
    return f"resized to {size}x{size} (bilinear, antialiased; proportions not kept)"


def resized(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Pixels (C, H, W), uint8 or float32 in [0, 1], as (C, size, size) of the same type; bilinear as Pillow does it."""
    from PIL import Image  # lazily: most data need it not

    mode = "L" if pixels.dtype == np.uint8 else "F"
    planes = [Image.fromarray(np.ascontiguousarray(plane), mode) for plane in pixels]
    made = np.stack([np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR)) for plane in planes])
    return made if mode == "L" else made.clip(0.0, 1.0)


def with_size(dataset: Dataset, size: int) -> Dataset:
    """The data set with every image resized; its note says so. Raises SizeLimitError for more than 1 GiB."""
    if len(dataset) * dataset.input_shape[0] * size * size * dataset.images.itemsize > MAX_DATA_BYTES:
        raise SizeLimitError("too much data", where="--resize", expected=f"<= {MAX_DATA_BYTES} bytes of pixels")
    images = np.stack([resized(image, size) for image in dataset.images])
    return Dataset(
        images, dataset.labels, dataset.name, dataset.classes, also(dataset.note, resize_note(size)), dataset.indices,
        dataset.drawn, dataset.class_names,
    )  # fmt: skip
