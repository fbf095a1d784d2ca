"""What a network under attack may not change: its own state, and that of the process it runs in.

A user's network is a user's code in this process; nothing here confines it. These checks find the mistakes that make a
number wrong, and the plain tricks.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from secure_ai.core.errors import TargetError

SHOWN = 3


class Watch:
    """The state of a network when it was first looked at, and whether it still is the same.

    After every call the version counters are compared, which every write in place moves, also one that is taken back;
    the values, which writes through `.data` change unseen, after calls 1, 2, 3, 4, 5, 8, 9, 16, 17 and so on, and at
    the end. Threads may share one: at worst it compares once less.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self._network, self._name = network, name
        self._state = dict(network.state_dict(keep_vars=True))
        self._values = {key: value.detach().clone() for key, value in self._state.items()}
        self._versions = self._versions_now()
        self._calls = 0

    def after_call(self) -> None:
        """To be called after every forward pass. Raises TargetError."""
        self._calls += 1
        if self._versions != (now := self._versions_now()):
            pairs = zip(self._state, self._versions, now, strict=True)
            raise self._refusal([key for key, before, after in pairs if before != after])
        if _near_power_of_two(self._calls):
            self.compare()

    def compare(self) -> None:
        """Compare every value. Raises TargetError."""
        after = self._network.state_dict()
        changed = sorted(self._values.keys() ^ after.keys())
        changed += [key for key, value in self._values.items() if key in after and not torch.equal(value, after[key])]
        if changed:
            raise self._refusal(changed)

    def _versions_now(self) -> list[int]:
        # a tensor made in inference mode has no counter, and cannot be written to outside of it
        return [0 if tensor.is_inference() else tensor._version for tensor in self._state.values()]

    def _refusal(self, changed: list[str]) -> TargetError:
        return TargetError(
            "the network changes its own weights when it is called",
            where=self._name,
            expected="fixed weights and buffers",
            got=", ".join(changed[:SHOWN]),
        )


def _near_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0 or (number - 1) & (number - 2) == 0


def random_states() -> tuple[Any, ...]:
    """Where Python's and numpy's random numbers of the whole process stand, to be compared."""
    arrays = np.random.get_state(legacy=True)
    return random.getstate(), arrays[1].tobytes(), arrays[2]  # type: ignore[index]


@contextlib.contextmanager
def kept_process_state() -> Iterator[None]:
    """Inside, no autocast. Random states, default dtype, gradient mode and threads are after as they were before."""
    numbers, arrays = random.getstate(), np.random.get_state()
    dtype, gradients, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", enabled=False):
            yield
    finally:
        random.setstate(numbers)
        np.random.set_state(arrays)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def unchanged_modes(name: str) -> Iterator[None]:
    """Around one call of a network: gradient mode and default dtype decide what the next line of ours computes.

    Raises:
        TargetError: the network has changed one of them for the whole process; both are put back.
    """
    before = (torch.is_grad_enabled(), torch.get_default_dtype())
    try:
        yield
    finally:
        after = (torch.is_grad_enabled(), torch.get_default_dtype())
        torch.set_grad_enabled(before[0])
        torch.set_default_dtype(before[1])
    if after != before:
        what = "torch's gradient mode" if after[0] != before[0] else "torch's default dtype"
        raise TargetError(
            f"the network changes {what} for the whole process",
            where=name,
            expected="no change that outlives the call",
            hint="use `with torch.no_grad():` or tensors of an explicit dtype",
        )
