"""Threads of a computation: torch's number of threads is afterwards what it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import torch


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside, torch computes on `count` threads."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextlib.contextmanager
def workers(count: int, name: str) -> Iterator[Executor]:
    """`count` threads, each of which computes with its part of torch's threads; `name` is for debuggers.

    Torch's number of threads is put back at the end: a worker's would be that of every thread to come.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, name, torch.set_num_threads, (threads // count,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
