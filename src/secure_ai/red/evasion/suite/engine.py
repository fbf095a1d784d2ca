"""What runs the shards of a suite: one after another on all threads, or side by side on threads of their own.

Two shards on one thread each are done sooner than one after the other on two threads, which wait for each other at
every layer (docs/results.md has the ratios).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence

import torch

from secure_ai.core.compute import MEMORY_FORMAT, workers
from secure_ai.core.seeds import generator
from secure_ai.models.reentrant import is_reentrant, reentrant_graph
from secure_ai.models.target.target import Forward, PassCounter, Target
from secure_ai.red.evasion.contract import SHARD_SIZE, AttackPlan
from secure_ai.red.evasion.suite.catalogue import ATTACKS
from secure_ai.red.evasion.suite.shard import ShardResult

PROBES = 4
"""Images on which a graph that stands for a network is compared with it."""
WORKERS = 4
WORKER_BATCH = SHARD_SIZE // WORKERS
"""Most workers, and most samples in a pass of one: together no more than one shard, so that memory does not grow with
the cores. On a core of its own a larger batch is not faster."""


def run_shards(
    target: Target,
    attacks: Sequence[AttackPlan],
    work: Callable[[Target, int], ShardResult],
    numbers: Sequence[int],
    *,
    samples: int,
) -> Generator[ShardResult]:
    """`work(target, number)` for every number, in their order, each as soon as those before it are there.

    Side by side only where nothing is shared but weights: a network of known layers or one that does nothing else, and
    attacks of this catalogue. Anyone else's code may keep what it likes, and gets one call at a time and every thread.
    How many threads and samples a pass has depends on `samples`, not on `numbers`: a replay of one shard computes as
    the whole suite did.

    Args:
        target: inside `attacked()`.
        work: may be called on another thread, with a target that counts its own passes.
        samples: in the whole suite.

    Raises:
        Exception: what `work` raised for the lowest number; the others stop at their next forward pass.
    """
    # the last shard may be small, and nothing to put beside a full one
    count = min(torch.get_num_threads(), WORKERS, samples // SHARD_SIZE)
    called = _called_by_many(target, attacks) if count > 1 else None
    if called is None:
        yield from (work(target, number) for number in numbers)
        return
    stand_in = None if called is target.network else called
    cancelled = threading.Event()
    passes: list[PassCounter] = []

    def run(number: int) -> ShardResult:
        sibling = target.sibling(cancelled, batch_size=WORKER_BATCH, stand_in=stand_in)
        passes.append(sibling.passes)
        return work(sibling, number)

    try:
        with workers(count, "shard") as pool:
            try:
                yield from pool.map(run, numbers)
            finally:
                cancelled.set()
    finally:
        target.passes.add(passes)


def _called_by_many(target: Target, attacks: Sequence[AttackPlan]) -> Forward | None:
    """What the attacks of several threads may call at once: the network, what stands for it, or None."""
    known = all(plan.entry is ATTACKS.get(plan.name) for plan in attacks)
    if not known or not target.deterministic:
        return None
    if is_reentrant(target.network):
        return target.network
    if target.access != "gradients":
        return None  # a callable is someone's code, and gets images only
    x = torch.rand((PROBES, *target.input_shape), generator=generator(0, "recorded network"))
    return reentrant_graph(target.network, target.transform(x.contiguous(memory_format=MEMORY_FORMAT)))
