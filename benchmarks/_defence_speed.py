"""How fast a row's training is on two threads of this machine's processor: what its minutes are counted with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from _package import (
    TRAINING_REPLICAS,
    Hardening,
    ModelSpec,
    PerturbationBudget,
    build_network,
    checks,
    generator,
    held_out,
    load_data,
    planned,
    timed_steps,
)
from torch import nn

if TYPE_CHECKING:
    from defences import Row

THREADS, SECONDS = 2, 600.0


def speed(fresh: ModelSpec | nn.Module, row: Row) -> dict[str, Any]:
    """Steps a second from all over the schedule, and seconds of a check.

    From processor seconds, two threads at once: on a machine that is shared the clock on the wall measures the others.
    """
    torch.set_num_threads(THREADS)
    built_in = not isinstance(fresh, nn.Module)
    network = fresh if isinstance(fresh, nn.Module) else build_network(row.arch, generator=generator(0, row.arch))
    asked = Hardening(
        method=row.method, budget=PerturbationBudget(row.norm, row.eps), seed=0, epochs=row.epochs,
        replicas=TRAINING_REPLICAS if built_in else 1, **dict(row.options),
    )  # fmt: skip
    training, held = held_out(load_data("mnist:train"), 0)
    method = asked.row.make(asked.wanted(training))
    plan = planned(asked, asked.row, len(training))
    clock, spent = time.perf_counter(), time.process_time()
    steps = timed_steps(network, training, method, plan, SECONDS)[0] + 1
    clock, spent = time.perf_counter() - clock, time.process_time() - spent
    began = time.process_time()
    checks(held, asked)(network)
    checked = (time.process_time() - began) / THREADS
    a_second = steps * THREADS / spent
    minutes = (plan.steps / a_second + plan.steps / plan.check_every * checked) / 60
    return {
        "threads": THREADS, "epochs": row.epochs, "minutes": round(minutes, 1), "check_seconds": round(checked, 2),
        "steps_a_second": round(a_second, 2), "steps_a_second_of_the_clock": round(steps / clock, 2),
    }  # fmt: skip
