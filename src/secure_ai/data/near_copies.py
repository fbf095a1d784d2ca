"""Images that are nearly the same: frames of one film, augmented copies. Each group is worth about one sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from secure_ai.data.dataset import Images

NEAR = 0.2
"""Two images are near copies where their l2 distance is at most this share of the smaller one's own contrast.

The contrast of an image is its l2 distance to its own mean grey. Chosen on MNIST: the first 10,000 training images are
worth 9,988 by it, 9,825 at 0.25, and all 10,000 at 0.15.
"""
_COARSE = 8  # cells a side of the small image that rules pairs out
_BLOCK = 500


def group_sizes(images: Images, near: float = NEAR) -> NDArray[np.int64]:
    """How many images each group of near copies holds: each image joins the first earlier one that it is near to.

    Exact: averaging over cells shrinks distances, so that no pair is ruled out that is near.

    Args:
        images: (N, C, H, W) uint8 or float32 in [0, 1].
        near: see NEAR.

    Returns:
        (G,) with sum N, in the order in which the groups begin.
    """
    radius, small = _coarse(images, near)
    left, sizes = np.arange(len(images)), []
    while len(left):
        block, sizes_here = left[:_BLOCK], []
        taken = np.zeros(len(left), dtype=bool)
        candidates = _candidates(small, radius, block, left)
        for row, leader in enumerate(block.tolist()):
            if taken[row]:
                continue
            others = np.flatnonzero(candidates[row] & ~taken)
            members = others[_near(images, radius, leader, left[others])] if len(others) > 1 else others
            taken[members] = True
            taken[row] = True
            sizes_here.append(max(1, len(members)))
        sizes += sizes_here
        left = left[~taken]
    return np.array(sizes, dtype=np.int64)


def effective_n(images: Images) -> int:
    """The number of independent samples that (N, C, H, W) `images` are worth: Kish's (sum m)^2 / sum m^2 over groups.

    N where no two are near copies. What the network answers on one of a group it answers on all, so that a share of N
    images varies as that of so many independent ones (Kish, Survey Sampling, 1965, section 8.2 with roh = 1).
    """
    sizes = group_sizes(images)
    return int(len(images) ** 2 // int((sizes**2).sum()))


def _coarse(images: Images, near: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N,) how far a near copy may lie, and (N, F) cell averages, no two further apart than their images are."""
    n, channels, height, width = images.shape
    rows, columns = min(_COARSE, height), min(_COARSE, width)
    down = np.linspace(0, height, rows + 1).astype(int)
    across = np.linspace(0, width, columns + 1).astype(int)
    scale = np.sqrt(np.outer(np.diff(down), np.diff(across)).astype(np.float32))
    radius, small = np.empty(n, np.float32), np.empty((n, channels * rows * columns), np.float32)
    for first in range(0, n, _BLOCK):
        part = slice(first, first + _BLOCK)
        pixels = _pixels(images[part])
        radius[part] = near * pixels.std(axis=(1, 2, 3)) * np.sqrt(channels * height * width)
        sums = np.add.reduceat(np.add.reduceat(pixels, down[:-1], axis=2), across[:-1], axis=3)
        small[part] = (sums / scale).reshape(len(pixels), -1)
    return radius, small


def _pixels(images: Images) -> NDArray[np.float32]:
    """(N, C, H, W) in [0, 1]."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images


def _candidates(
    small: NDArray[np.float32], radius: NDArray[np.float32], block: NDArray[Any], left: NDArray[Any]
) -> NDArray[np.bool_]:
    """(B, M) bool: pairs that may be near; rounding is given the benefit of the doubt."""
    a, b = small[block], small[left]
    norms = (b * b).sum(axis=1)
    squared = a @ b.T
    squared *= -2
    squared += norms
    squared += (a * a).sum(axis=1)[:, None]
    limit = radius[block][:, None] ** 2 + 1e-5 * (1 + norms)
    return np.asarray(squared <= limit)


def _near(images: Images, radius: NDArray[np.float32], leader: int, others: NDArray[Any]) -> NDArray[np.bool_]:
    """(M,) bool: which of the images at `others` are near copies of the one at `leader`."""
    first, found = _pixels(images[leader : leader + 1]), []
    for start in range(0, len(others), _BLOCK):
        part = others[start : start + _BLOCK]
        distance = np.sqrt(((_pixels(images[part]) - first) ** 2).sum(axis=(1, 2, 3)))
        found.append(distance <= np.minimum(radius[leader], radius[part]))
    return np.concatenate(found)
