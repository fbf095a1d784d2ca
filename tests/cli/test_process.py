"""What the command line sets for its process, and only it."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys

import pytest

CHURN = """
import resource, threading, torch
from secure_ai.cli.process import keep_memory

def churn(times):
    for _ in range(times):
        held = [torch.ones(1 << 18) for _ in range(20)]
        while held:
            held.pop()

def faults():
    churn(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    churn(20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

{}
thread = threading.Thread(target=faults)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_not_fetched_again_at_every_step() -> None:
    tuned = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(tuned)}
    kept, given_back = (
        int(
            subprocess.run(
                [sys.executable, "-c", CHURN.format(first)], env=plain, capture_output=True, check=True
            ).stdout
        )
        for first in ("keep_memory()", "")
    )
    pages = 20 * 20 * (1 << 20) // resource.getpagesize()
    assert kept < pages / 100
    assert given_back > 10 * (kept + 1)


PREPARED = """
import os, sys
from secure_ai.cli.process import prepare_process
prepare_process()
assert "torch" not in sys.modules
import torch
print(os.environ["OMP_WAIT_POLICY"], os.environ["OMP_NUM_THREADS"], torch.get_num_threads())
"""


@pytest.mark.parametrize(("given", "expected"), [("3", "3"), ("", str(len(os.sched_getaffinity(0))))])
def test_the_environment_decides_the_threads_else_every_core_has_one(given: str, expected: str) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    run = subprocess.run(
        [sys.executable, "-c", PREPARED], env=plain | {"OMP_NUM_THREADS": given}, capture_output=True, check=True
    )
    assert run.stdout.decode().split() == ["PASSIVE", expected, expected]
