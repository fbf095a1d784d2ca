"""A plain callable as a target: whatever answers images with scores or labels, be it a web service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.core.errors import TargetError
from secure_ai.models.target.access import Access

ScoreFunction = Callable[[np.ndarray], Any]
"""From images (N, C, H, W) float32 to scores (N, K) or labels (N,): an array, a tensor, or lists."""


class Scorer(nn.Module):
    """Calls the function on a copy of the images as a NumPy array; no gradient passes through."""

    def __init__(self, function: ScoreFunction, access: Access) -> None:
        super().__init__()
        self._function = function
        self._access = access

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, K) float32, or labels (N,) int64. Raises TargetError for another answer."""
        images = np.array(x.detach().cpu().numpy(), dtype=np.float32, order="C")
        answer = self._function(images)
        if isinstance(answer, Tensor):
            answer = answer.detach().cpu().numpy()
        try:
            array = np.asarray(answer)
        except ValueError as error:  # rows of different lengths
            raise self._refusal(len(x), error) from None
        wanted = "iu" if self._access == "labels" else "f"
        if array.dtype.kind not in wanted or array.ndim != (1 if self._access == "labels" else 2):
            raise self._refusal(len(x), f"{array.shape} {array.dtype}", array)
        if len(array) != len(x):
            raise self._refusal(len(x), f"{array.shape} {array.dtype}")
        return torch.from_numpy(array.astype(np.int64 if self._access == "labels" else np.float32)).to(x.device)

    def _refusal(self, n: int, got: object, array: np.ndarray | None = None) -> TargetError:
        labels = self._access == "labels"
        answers_labels = array is not None and array.ndim == 1 and array.dtype.kind in "iu"
        answers_scores = array is not None and array.ndim == 2 and array.dtype.kind == "f"
        hint = "--access labels" if answers_labels and not labels else "--access scores"
        return TargetError(
            f"the callable's answer is not one {'label' if labels else 'score a class'} for every image",
            where="the callable",
            expected=f"({n},) whole numbers" if labels else f"({n}, K) floating point",
            got=got,
            hint=f"it seems to answer something else: {hint}" if answers_labels or answers_scores else "",
        )
