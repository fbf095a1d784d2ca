"""The one place that decides threads and precision."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from secure_ai.core import compute
from secure_ai.core.compute import configure, lower_precision
from secure_ai.core.errors import UsageError
from secure_ai.core.machine import available_cores, describe_machine


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1025", "1.5", " 2", "2,1", "\u0663", "9" * 30])
def test_a_bad_number_of_threads_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(UsageError) as caught:
        configure()
    assert (caught.value.where, caught.value.exit_code) == ("OMP_NUM_THREADS", 2)


def test_the_environment_decides_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert configure().threads == torch.get_num_threads() == 1
    assert configure(threads=2).threads == torch.get_num_threads() == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert configure().threads == available_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert configure().threads == available_cores()


@pytest.mark.parametrize(
    ("flags", "training"),
    [
        (frozenset(), torch.float32),
        (frozenset({"avx512_bf16"}), torch.bfloat16),
        (frozenset({"amx_bf16", "avx512_bf16"}), torch.bfloat16),
    ],
)
def test_precision_follows_the_processor(
    flags: frozenset[str], training: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "cpu_flags", lambda: flags)
    assert configure(threads=1).training_dtype is training
    assert configure("float32", threads=1).training_dtype is torch.float32


def test_lower_precision_is_a_switch() -> None:
    x = torch.ones(4, 4)
    with lower_precision(torch.float32):
        assert (x @ x).dtype is torch.float32
    with lower_precision(torch.bfloat16):
        assert (x @ x).dtype is torch.bfloat16
    assert (x @ x).dtype is torch.float32


def test_what_is_written_down_about_the_machine_names_neither_host_nor_user() -> None:
    assert set(describe_machine()) == {"system", "processor", "cores", "bf16_units", "python"}
    assert configure("float32", threads=1).as_json() == {
        "threads": 1,
        "training_dtype": "float32",
    }


CHURN = """
import resource, threading, torch
from secure_ai.core.machine import keep_memory

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
