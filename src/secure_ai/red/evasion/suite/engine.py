"""What runs the shards of a suite: one after another on all threads, or side by side on a thread each.

Two shards on one thread each are done sooner than one after the other on two threads, which wait for each other at
every layer (docs/results.md has the ratios). Threads share a network of known layers. Of a user's own module each gets
a copy after a trial, and what counts is asked of the original.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor, nn

from secure_ai.core.errors import SecureAIError
from secure_ai.core.parallel import workers
from secure_ai.models.target.copies import is_shareable
from secure_ai.models.target.passes import PassCounter
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import SHARD_SIZE, AttackPlan
from secure_ai.red.evasion.suite.catalogue import is_built_in
from secure_ai.red.evasion.suite.shard import ShardResult, ShardTask
from secure_ai.red.evasion.suite.trial import Copies, try_copies

WORKERS = 4
WORKER_BATCH = SHARD_SIZE // WORKERS
"""Most workers, and most samples in a pass of one: together no more than one shard, so that memory does not grow with
the cores. On a core of its own a larger batch is not faster."""

Work = Callable[[NetworkTarget, NetworkTarget, int], ShardResult]
"""From what judges, what is searched and the number of a shard; perhaps on another thread."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the shards of a suite run.

    Attributes:
        workers: 1: one shard after another, on all threads.
        copies: of a user's module, one a worker; None: the network itself is shared.
        alone: why there is one worker although several threads are there; else empty.
    """

    workers: int
    copies: Copies | None = None
    alone: str = ""


def arrange(target: NetworkTarget, attacks: Sequence[AttackPlan], samples: int, first: ShardTask) -> Arrangement:
    """Side by side only where nothing is shared but weights.

    How many threads and samples a pass has depends on the whole suite: a replay of one shard computes as that did.

    Args:
        target: inside `attacked()`.
        samples: in the whole suite.
        first: its first shard, for the trial of a user's own module.
    """
    # the last shard may be small, and nothing to put beside a full one
    count = min(torch.get_num_threads(), WORKERS, samples // SHARD_SIZE)
    if count <= 1:
        return Arrangement(1)
    if not all(is_built_in(plan) for plan in attacks):
        return Arrangement(1, alone="an attack of another library may keep state")
    if not target.deterministic:
        return Arrangement(1, alone="the network is random")
    if target.device.type != "cpu":
        return Arrangement(1, alone="a GPU computes one shard at a time")
    if is_shareable(target.network):
        return Arrangement(count)
    if target.access != "gradients":
        return Arrangement(1, alone="a callable may keep state")
    copies = try_copies(replace(target, batch_size=_batch_size(target)), attacks, first, count)
    return Arrangement(1, alone=copies) if isinstance(copies, str) else Arrangement(count, copies)


def run_shards(
    target: NetworkTarget, arrangement: Arrangement, work: Work, numbers: Sequence[int]
) -> Generator[ShardResult | None]:
    """`work` for every number, in their order, each as soon as those before it are there.

    None among the results: what came before does not count, because copies have come apart; all is run again alone.

    Args:
        target: inside `attacked()`.

    Raises:
        Exception: what `work` raised for the lowest number; the others stop at their next forward pass.
    """
    if arrangement.workers == 1:
        yield from (work(target, target, number) for number in numbers)
        return
    copies = arrangement.copies
    try:
        yield from _side_by_side(target, arrangement, work, numbers)
        agreed = copies is None or copies.still_agree(target)
    except SecureAIError:
        if copies is None:
            raise
        agreed = False  # an error of the original is raised again alone
    if not agreed:
        yield None
        yield from (work(target, target, number) for number in numbers)


def _side_by_side(
    target: NetworkTarget, arrangement: Arrangement, work: Work, numbers: Sequence[int]
) -> Iterator[ShardResult]:
    cancelled = threading.Event()
    passes: list[PassCounter] = []
    judge = replace(target, batch_size=_batch_size(target))
    free: SimpleQueue[NetworkTarget] = SimpleQueue()
    if arrangement.copies is not None:
        judge = replace(judge, network=_OneAtATime(target.network))
    for one in [judge] * arrangement.workers if arrangement.copies is None else arrangement.copies.targets:
        free.put(one)

    def before_pass() -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt  # which only the main thread hears of

    def run(number: int) -> ShardResult:
        counter = PassCounter()
        passes.append(counter)
        searched = free.get()
        try:
            ours, its = (replace(one, passes=counter, before_pass=before_pass) for one in (judge, searched))
            return work(ours, its, number)
        finally:
            free.put(searched)

    try:
        with workers(arrangement.workers, "shard") as pool:
            try:
                yield from pool.map(run, numbers)
            finally:
                cancelled.set()
    finally:
        target.passes.add(passes)


def _batch_size(target: NetworkTarget) -> int:
    return min(target.batch_size, WORKER_BATCH)


class _OneAtATime(nn.Module):
    """A user's module that judges for all workers, which none but one of them may call at a time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self._lock = network, threading.Lock()

    def forward(self, x: Tensor) -> Any:
        """What the module answers."""
        with self._lock:
            return self.network(x)
