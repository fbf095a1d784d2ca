"""One short digest an image, to ask whether an image was among others without keeping those."""

from __future__ import annotations

import hashlib

import numpy as np

from secure_ai.data.dataset import Images

DIGEST_BYTES = 8  # of 60,000 x 10,000 pairs of different images about 3e-11 share one


def image_digests(images: Images) -> list[str]:
    """Hex BLAKE2b over shape and 8-bit pixels, the same for an image as bytes and as floats in [0, 1].

    Args:
        images: (N, C, H, W) uint8, or float32 in [0, 1], which is rounded to 8 bits.
    """
    shape = repr(images.shape[1:]).encode()
    return [hashlib.blake2b(shape + _bytes(image).tobytes(), digest_size=DIGEST_BYTES).hexdigest() for image in images]


def _bytes(image: Images) -> Images:
    return image if image.dtype == np.uint8 else np.rint(image * np.float32(255)).astype(np.uint8)
