"""What was spent on a target: samples passed through the network, in all and of each sample of a shard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(slots=True)
class PassCounter:
    """Samples sent forward through the network, and samples whose gradient was taken."""

    forward: int = 0
    backward: int = 0
    _queries: Tensor | None = field(default=None, repr=False, compare=False)

    def add(self, others: Iterable[PassCounter]) -> None:
        """Count theirs too."""
        for other in others:
            self.forward += other.forward
            self.backward += other.backward

    def count_forward(self, samples: int) -> None:
        """So many samples go forward."""
        self.forward += samples

    def count_backward(self, gradient: Tensor) -> None:
        """A hook of the outputs: a gradient (N, K) comes back."""
        self.backward += len(gradient)

    def count_queries(self, rows: Tensor | None) -> None:
        """One query for each of the samples `rows` (N,), inside `counting()`."""
        if self._queries is not None and rows is not None:
            rows = rows.cpu()
            self._queries.index_add_(0, rows, torch.ones_like(rows))

    @contextlib.contextmanager
    def counting(self, n: int) -> Iterator[Tensor]:
        """Inside, queries that name their `rows` are counted in the tensor that is given: (n,) int64, one a sample."""
        before, self._queries = self._queries, torch.zeros(n, dtype=torch.int64, device="cpu")
        try:
            yield self._queries
        finally:
            self._queries = before
