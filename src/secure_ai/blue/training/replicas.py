"""Data parallelism on one processor: each replica of a network takes its part of every batch, on threads of its own.

On two cores, two halves on one thread each left each other alone where two threads on one batch wait for each other at
every layer (docs/results.md has the ratios). What a step computes depends on the number of replicas, never on which one
was faster: parts, their draws and the order in which gradients are added are fixed.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import torch
from torch import nn

from secure_ai.blue.training.methods import Batch, BatchLoss, Method
from secure_ai.core.compute import lower_precision


class Replicas:
    """A network and copies that share its parameters but have gradients of their own.

    Args:
        count: replicas, the network itself among them.

    Raises:
        ValueError: more than one, and the network has buffers, whose copies would part ways (batch statistics, say).
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        if count > 1 and next(network.buffers(), None) is not None:
            raise ValueError("a network with buffers cannot be trained in replicas")
        self.networks = [network, *(_sharing(network) for _ in range(count - 1))]
        self._pool: Executor | None = None

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Inside, in training mode, `backward` may be called; with one replica no thread is started."""
        count, threads = len(self.networks), torch.get_num_threads()
        for network in self.networks:
            network.train()
        if count == 1:
            yield
            return
        own = max(1, threads // count)
        # the optimizer's short loops too: between the parts, waking another thread takes longer than they do
        torch.set_num_threads(own)
        try:
            with ThreadPoolExecutor(count, "replica", torch.set_num_threads, (own,)) as self._pool:
                yield
        finally:
            self._pool = None
            torch.set_num_threads(threads)

    def backward(self, method: Method, batch: Batch, draws: Sequence[torch.Generator], dtype: torch.dtype) -> BatchLoss:
        """Add the gradient of the batch's mean loss to that of the network's parameters.

        Args:
            batch: what is split; one of fewer samples than replicas leaves some idle.
            draws: the randomness of each replica, in place of the batch's own.

        Returns:
            The mean loss (detached) and the right predictions of the whole batch.
        """
        parts = _parts(batch, draws)
        if self._pool is None:
            results = [_backward(self.networks[0], method, parts[0], 1.0, dtype)]
        else:
            shares = [len(part.y) / len(batch.y) for part in parts]
            work = [
                self._pool.submit(_backward, network, method, part, share, dtype)
                for network, part, share in zip(self.networks, parts, shares, strict=False)
            ]
            results = [one.result() for one in work]
            for replica in self.networks[1 : len(parts)]:
                _move_gradients(replica, self.networks[0])
        return BatchLoss(
            torch.stack([result.loss for result in results]).sum(),
            torch.stack([result.correct for result in results]).sum(),
            sum(result.n for result in results),
        )


def _sharing(network: nn.Module) -> nn.Module:
    replica = copy.deepcopy(network)
    for mine, theirs in zip(replica.parameters(), network.parameters(), strict=True):
        mine.data = theirs.data
    return replica


def _parts(batch: Batch, draws: Sequence[torch.Generator]) -> list[Batch]:
    count = len(draws)
    pieces = zip(batch.x.chunk(count), batch.y.chunk(count), batch.indices.chunk(count), draws, strict=False)
    return [Batch(*piece) for piece in pieces]


def _backward(network: nn.Module, method: Method, part: Batch, share: float, dtype: torch.dtype) -> BatchLoss:
    with lower_precision(dtype):
        result = method(network, part)
    loss = result.loss * share
    loss.backward()
    return BatchLoss(loss.detach(), result.correct, result.n)


def _move_gradients(replica: nn.Module, network: nn.Module) -> None:
    for mine, theirs in zip(replica.parameters(), network.parameters(), strict=True):
        if mine.grad is not None:
            theirs.grad = mine.grad if theirs.grad is None else theirs.grad.add_(mine.grad)
            mine.grad = None
