"""What runs the shards of a suite: one after another, or side by side on threads of their own.

A shard computed on one thread beside another is done sooner than both one after the other on two threads, which wait
for each other at every layer (docs/results.md has the ratios). Neither the number of workers nor their order changes a
result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from secure_ai.models.target import PassCounter, Target
from secure_ai.red.evasion.catalogue import ATTACKS
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.shard import ShardResult

LAYERS = tuple(
    ["torch.nn.modules.", *(f"secure_ai.models.{name}" for name in ("networks", "keras_modules", "wrappers"))]
)
"""Modules of Python whose layers keep nothing between two calls, so that two threads may call one network."""
WORKER_BATCH = 64
"""Most samples in a pass of a worker: on a core of its own larger ones gain nothing, and all hold memory at once."""

Work = Callable[[Target, int], ShardResult]


def run_shards(
    target: Target, attacks: Sequence[AttackPlan], work: Work, numbers: Sequence[int]
) -> Generator[ShardResult]:
    """`work(target, number)` for every number, in their order, each as soon as those before it are there.

    Side by side only where nothing is shared but weights: a network made of known layers, and attacks of this
    catalogue. Anyone else's code may keep what it likes, and gets one call at a time and every thread.

    Args:
        target: inside `attacked()`.
        work: may be called on another thread, with a target that counts its own passes.

    Raises:
        Exception: what `work` raised for the lowest number; the others stop at their next forward pass.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(numbers)) if _share_nothing(target, attacks) else 1
    if workers < 2:
        yield from (work(target, number) for number in numbers)
        return
    cancelled = threading.Event()
    spent: list[PassCounter] = []

    def run(number: int) -> ShardResult:
        sibling = target.sibling(cancelled, batch_size=WORKER_BATCH)
        spent.append(sibling.passes)
        return work(sibling, number)

    with ThreadPoolExecutor(workers, "shard", torch.set_num_threads, (threads // workers,)) as pool:
        futures = [pool.submit(run, number) for number in numbers]
        try:
            for future in futures:
                yield future.result()
        finally:
            cancelled.set()
            pool.shutdown(cancel_futures=True)
            target.passes.add(spent)


def _share_nothing(target: Target, attacks: Sequence[AttackPlan]) -> bool:
    known = all(plan.entry is ATTACKS.get(plan.name) for plan in attacks)
    return known and target.deterministic and all(_keeps_nothing(module) for module in target.network.modules())


def _keeps_nothing(module: nn.Module) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return type(module).__module__.startswith(LAYERS) and not hooked and "forward" not in vars(module)
