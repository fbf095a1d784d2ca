"""Input transformations that people ask for. None of them is a defence: docs/defences-that-do-not-hold.md measures it.

Each maps images (N, C, H, W) in [0, 1] to images of the same shape in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.errors import UsageError
from secure_ai.core.seeds import generator

Transform = Callable[[Tensor, torch.Generator], Tensor]

BLOCK = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
"""Quantisation table of ITU-T T.81, annex K.1."""


def bit_depth(x: Tensor, draws: torch.Generator, *, bits: int) -> Tensor:
    """Round to 2**bits grey levels (feature squeezing, Xu et al., 1704.01155, section 4.1)."""
    levels = 2**bits - 1
    squeezed: Tensor = (x * levels).round() / levels
    return squeezed


def median(x: Tensor, draws: torch.Generator, *, size: int) -> Tensor:
    """The median of a size x size neighbourhood, edges repeated (1704.01155, section 4.2)."""
    left, right = (size - 1) // 2, size // 2
    padded = functional.pad(x, (left, right, left, right), mode="replicate")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)
    return windows.median(dim=4).values


def jpeg_like(x: Tensor, draws: torch.Generator, *, quality: int) -> Tensor:
    """JPEG's loss without its file: 8 x 8 cosine transform, quantised by T.81's table, and back; every channel alone.

    Args:
        quality: 1 to 100, as libjpeg scales its tables.
    """
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = ((torch.tensor(LUMINANCE, device=x.device) * scale + 50) / 100).floor().clamp(1, 255).to(x.dtype)
    height, width = x.shape[2:]
    padded = functional.pad(x, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate") * 255 - 128
    blocks = padded.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)
    cosine = _cosine(x.dtype).to(x.device)
    quantised = ((cosine @ blocks @ cosine.T) / table).round() * table
    whole = (cosine.T @ quantised @ cosine).permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
    return ((whole + 128) / 255)[:, :, :height, :width].clamp(0, 1)


def _cosine(dtype: torch.dtype) -> Tensor:
    """The orthonormal 8 x 8 discrete cosine transform (type II)."""
    k, n = torch.arange(BLOCK, device="cpu")[:, None], torch.arange(BLOCK, device="cpu")[None]
    matrix = torch.cos(math.pi * (2 * n + 1) * k / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] = math.sqrt(1 / BLOCK)
    return matrix.to(dtype)


def random_resize(x: Tensor, draws: torch.Generator, *, smallest: float) -> Tensor:
    """Shrink to a random size and pad back at a random place (Xie et al., 1711.01991), one draw a batch.

    Args:
        smallest: fraction of the height and width that is kept at least.
    """
    height, width = x.shape[2:]
    factor = smallest + (1 - smallest) * float(torch.rand((), generator=draws, device="cpu"))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    small = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
    down = int(torch.randint(0, height - size[0] + 1, (), generator=draws, device="cpu"))
    right = int(torch.randint(0, width - size[1] + 1, (), generator=draws, device="cpu"))
    return functional.pad(small, (right, width - size[1] - right, down, height - size[0] - down))


TRANSFORMS: dict[str, Callable[..., Tensor]] = {
    "bits": partial(bit_depth, bits=1),
    "median": partial(median, size=3),
    "jpeg": partial(jpeg_like, quality=50),
    "resize": partial(random_resize, smallest=0.7),
}
"""Name -> transformation at the strength that its authors or users choose for digits."""
RANDOM = frozenset({"resize"})


class Transformed(nn.Module):
    """A network behind a transformation.

    Args:
        straight_through: gradients pass the transformation as if it were not there (BPDA, Athalye et al., 1802.00420,
            section 4.1.1): how an attacker treats what cannot be differentiated.
        seed: of a random transformation; every call draws again.
    """

    def __init__(self, network: nn.Module, name: str, *, straight_through: bool, seed: int = 0) -> None:
        if name not in TRANSFORMS:
            raise UsageError("unknown transformation", expected=" or ".join(TRANSFORMS), got=name)
        super().__init__()
        self.network, self.name, self.straight_through, self.seed = network, name, straight_through, seed
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the transformed x: (N, C, H, W) in [0, 1]."""
        self.calls += self.name in RANDOM
        guarded = TRANSFORMS[self.name](x, generator(self.seed, "guard", self.calls))
        if self.straight_through and self.name not in RANDOM:
            guarded = x + (guarded - x).detach()
        logits: Tensor = self.network(guarded)
        return logits
