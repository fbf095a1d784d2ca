"""Data parallelism on one processor: each replica of a network takes its part of every batch, on threads of its own.

Two halves of a batch on one thread each leave each other alone, where two threads on the whole of it wait for each
other at every layer (docs/results.md has the ratios). What a step computes depends on the number of replicas, never on
which one was faster: parts, their draws and the order in which gradients are added are fixed.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import torch
from torch import nn

from secure_ai.blue.training.methods import Batch, BatchLoss, Method
from secure_ai.core.compute import device_of, lower_precision
from secure_ai.core.parallel import workers


class Replicas:
    """A network and copies that share its parameters but have gradients of their own.

    Args:
        count: replicas, the network itself among them; see `allowed_replicas`.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        self.networks = [network, *(_sharing(network) for _ in range(count - 1))]
        self._pool: Executor | None = None

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Inside, in training mode, `backward` may be called; a single replica works on the caller's own threads."""
        for network in self.networks:
            network.train()
        if len(self.networks) == 1:
            yield
            return
        threads = torch.get_num_threads()
        count = min(len(self.networks), threads)  # on one thread the parts follow one another, with the same sums
        with workers(count, "replica") as self._pool:
            # the optimizer's short loops too: between the parts, waking another thread takes longer than they do
            torch.set_num_threads(threads // count)
            try:
                yield
            finally:
                self._pool = None

    def backward(self, method: Method, parts: Sequence[Batch], dtype: torch.dtype) -> BatchLoss:
        """Add the gradient of a batch's mean loss to that of the network's parameters.

        Args:
            parts: the batch, in one part for each replica or fewer; each has its own randomness.

        Returns:
            The mean loss (detached) and the right predictions of the whole batch.

        Raises:
            ValueError: more parts than replicas, or several outside `working()`.
        """
        if len(parts) > (len(self.networks) if self._pool else 1):
            raise ValueError("more parts than replicas at work")
        n = sum(len(part.y) for part in parts)
        work = [
            (network, method, part, len(part.y) / n, dtype)
            for network, part in zip(self.networks, parts, strict=False)  # a small batch has fewer parts
        ]
        if self._pool is None:
            results = [_backward(*one) for one in work]
        else:
            results = [one.result() for one in [self._pool.submit(_backward, *one) for one in work]]
        for replica, *_ in work[1:]:
            _move_gradients(replica, self.networks[0])
        return BatchLoss(
            torch.stack([result.loss for result in results]).sum(),
            torch.stack([result.correct for result in results]).sum(),
            sum(result.n for result in results),
        )


def allowed_replicas(network: nn.Module, wanted: int) -> int:
    """`wanted`; 1 on a GPU, or for a network whose copies would part ways: with buffers (batch statistics) or dropout.

    Of random numbers the part that comes first would get the first. To be asked before anything else is done to the
    network: replicas share its weights, also those that a method perturbs in place.
    """
    random = any(isinstance(module, nn.modules.dropout._DropoutNd) for module in network.modules())
    alone = random or next(network.buffers(), None) is not None or device_of(network).type != "cpu"
    return 1 if alone else wanted


def _sharing(network: nn.Module) -> nn.Module:
    replica = copy.deepcopy(network)
    for mine, theirs in zip(replica.parameters(), network.parameters(), strict=True):
        mine.data = theirs.data
    return replica


def _backward(network: nn.Module, method: Method, part: Batch, share: float, dtype: torch.dtype) -> BatchLoss:
    with lower_precision(dtype, part.x.device):
        result = method(network, part)
    loss = result.loss * share
    loss.backward()
    return BatchLoss(loss.detach(), result.correct, result.n)


def _move_gradients(replica: nn.Module, network: nn.Module) -> None:
    for mine, theirs in zip(replica.parameters(), network.parameters(), strict=True):
        if mine.grad is not None:
            theirs.grad = mine.grad if theirs.grad is None else theirs.grad.add_(mine.grad)
            mine.grad = None
