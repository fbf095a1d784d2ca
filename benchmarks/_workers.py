"""Two workers of one thread against one process of two, with and without a busy neighbour.

`train` and `pgd`: two processes against one. `replicas`: one process whose every batch is trained in two parts side by
side, one thread each, against both threads on the whole batch; the tool's default follows from that row.
"""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from _environment import ROOT
from _package import NetworkTarget, PerturbationBudget, configure, generator, images_to_float, load_mnist, pgd, sample_n

if TYPE_CHECKING:
    from pipeline import Bench

PROGRAM = ROOT / "benchmarks" / "pipeline.py"
BATCH = 128
ATTACKED = 256  # images of a shard
STEPS = {"train": 100, "pgd": 20, "replicas": 100}  # of the process with two threads; each of two workers does half
CLEAR = 1.05  # a ratio nearer to 1 decides nothing
SPIN = "while True: pass"


def one(work: str, threads: int, steps: int, replicas: int = 1) -> None:
    """A worker: ready, told to start, does its steps, prints its seconds."""
    import torch

    torch.set_num_threads(threads)
    compute = configure("auto")
    do = _attacking() if work == "pgd" else _training(compute.training_dtype, replicas)
    do(2)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    do(steps)
    print(json.dumps(time.perf_counter() - began), flush=True)


def _training(dtype: Any, replicas: int) -> Any:
    from _step import trained

    whole = load_mnist("train")
    return lambda steps: trained(sample_n(whole, steps * BATCH, 0), dtype, 1, replicas)


def _attacking() -> Any:
    from _cost import EPS, build

    x = images_to_float(sample_n(load_mnist("train"), ATTACKED, 0).images)
    target = NetworkTarget(build(28, 1.0).eval(), name="worker", digest="", input_shape=(1, 28, 28), num_classes=10)
    y, budget = target.predict(x), PerturbationBudget("linf", EPS)

    def do(steps: int) -> None:
        pgd(target, x, y, budget=budget, generator=generator(0, "worker"), steps=steps)

    return do


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that takes one core, where asked."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-I", "-c", SPIN])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds(work: str, workers: int, steps: int, replicas: int = 1) -> float:
    """Of the slowest of `workers` processes that share `steps` and two threads; starts and warm-up do not count."""
    task = ["workers", work, 2 // workers, steps // workers, replicas]
    words = [sys.executable, str(PROGRAM), "--one", json.dumps(task)]
    with ExitStack() as open_processes:
        processes = [
            open_processes.enter_context(
                subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(workers)
        ]
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise SystemExit(f"a worker for {work} did not get ready")
        for process in processes:
            if process.stdin:
                process.stdin.write("\n")
                process.stdin.flush()
        return max(float(json.loads(process.stdout.readline())) for process in processes if process.stdout)


def compared(work: str, busy: bool, steps: int, pairs: int) -> dict[str, Any]:
    """Medians over pairs run one after the other."""
    workers, replicas = (1, 2) if work == "replicas" else (2, 1)
    with neighbour(busy):
        measured = [(seconds(work, 1, steps), seconds(work, workers, steps, replicas)) for _ in range(pairs)]
    ratio = statistics.median(together / apart for together, apart in measured)
    return {
        "pairs": pairs,
        "together_seconds": round(statistics.median(together for together, _ in measured), 3),
        "apart_seconds": round(statistics.median(apart for _, apart in measured), 3),
        "ratio": round(ratio, 3),
        "ratios": [round(together / apart, 3) for together, apart in measured],
        "supports": supports(ratio),
    }


def supports(ratio: float) -> str:
    """Which default a ratio (seconds together over seconds apart) speaks for."""
    if ratio >= CLEAR:
        return "apart"
    return "together" if ratio <= 1 / CLEAR else "either"


def measure(bench: Bench) -> None:
    """Both kinds of work, idle and busy."""
    for work, usual in STEPS.items():
        steps = 4 if bench.arguments.small else usual
        for busy in (False, True):
            pairs = bench.arguments.pairs
            key = {"work": work, "busy_neighbour": busy, "steps": steps, "pairs": pairs}
            bench.measure("workers", key, functools.partial(compared, work, busy, steps, pairs))
