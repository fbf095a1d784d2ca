"""What the command line sets for its whole process; a library must not do so to its caller's."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

from secure_ai.core.machine import available_cores

MALLOC_OPTIONS = {-1: 64 << 20, -3: 32 << 20}
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's mallopt, in bytes."""
RELEASE_SECONDS = 1.0
"""Between two releases of freed memory: batches shrink as samples are broken, and blocks of every size leave holes."""


def prepare_process() -> None:
    """To be called once, before torch is imported: the library that runs its threads reads the environment then.

    Idle threads sleep: spinning made 2 threads 2 to 7 times slower than 1 beside any other load. Every core that this
    process may use has a thread, unless `OMP_NUM_THREADS` says otherwise.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")  # or it takes fewer threads than it is told
    if not os.environ.get("OMP_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = str(available_cores())
    keep_memory()


def keep_memory() -> None:
    """Keep up to 64 MiB of freed memory at hand for every thread, where the C library can.

    It gives memory back at every step of an attack and fetches it again: of APGD-T on two threads and MNIST that was
    2.7 to 4.1 of 30 s of processor time, with these limits 0.5 to 0.7. AutoAttack's peak memory was 459 to 581 MiB in
    three runs (median 467), without them 438 to 469 (452).
    """
    try:
        for option, value in MALLOC_OPTIONS.items():
            ctypes.CDLL(None).mallopt(option, value)
    except (OSError, AttributeError, TypeError):
        return  # no glibc: nothing to do


def release_memory() -> None:
    """Give freed memory back to the system, where the C library can: it would keep gigabytes between stages."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # no glibc: nothing to do


def releaser() -> Callable[[], None]:
    """`release_memory`, at most once a second."""
    released = time.monotonic()

    def release() -> None:
        nonlocal released
        if time.monotonic() - released > RELEASE_SECONDS:
            release_memory()
            released = time.monotonic()

    return release
