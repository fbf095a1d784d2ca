"""What a network under attack may not change: its own state, and that of the process it runs in.

A user's network is a user's code in this process; nothing here confines it. These checks find the mistakes that make a
number wrong, and the plain tricks.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.core.errors import TargetError
from secure_ai.models.tensors import state_digest

SHOWN = 3
CALLS_COMPARED = 2


class Watch:
    """The state of a network when it was first looked at, and whether it still is the same.

    After every call the version counters are compared, which every write in place moves, also one that is taken back.
    The values, which writes through `.data` change unseen, are compared with `by_value` after the first two calls and
    at the end: by their digests, so that nothing is copied. Threads may share one.
    """

    def __init__(self, network: nn.Module, name: str, *, by_value: bool = True) -> None:
        self._network, self._name, self._by_value = network, name, by_value
        state = _tensors(network)
        self._names, self._tensors = list(state), list(state.values())
        self._versions = self._versions_now()
        self._digests = _digests(state) if by_value else {}
        self._calls = 0

    def after_call(self) -> None:
        """To be called after every forward pass. Raises TargetError."""
        self._calls += 1
        if self._versions != (now := self._versions_now()):
            triples = zip(self._names, self._versions, now, strict=True)
            raise self._refusal([name for name, before, after in triples if before != after])
        if self._calls <= CALLS_COMPARED:
            self.compare()

    def compare(self) -> None:
        """Compare every value, or with version counters only, which tensors there are. Raises TargetError."""
        state = _tensors(self._network)
        changed = sorted(set(self._names) ^ state.keys())
        if self._by_value:
            after = _digests(state)
            changed += [name for name, digest in self._digests.items() if name in after and after[name] != digest]
        if changed:
            raise self._refusal(changed)

    def _versions_now(self) -> list[int]:
        # a tensor made in inference mode has no counter, and cannot be written to outside of it
        return [0 if tensor.is_inference() else tensor._version for tensor in self._tensors]

    def _refusal(self, changed: list[str]) -> TargetError:
        return TargetError(
            "the network changes its own weights when it is called",
            where=self._name,
            expected="fixed weights and buffers",
            got=", ".join(changed[:SHOWN]),
        )


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _digests(state: dict[str, Tensor]) -> dict[str, str]:
    return {name: state_digest({name: value}) for name, value in state.items()}


def random_states() -> tuple[Any, ...]:
    """Where random numbers of Python, numpy and the GPUs stand in the whole process, to be compared."""
    arrays = np.random.get_state(legacy=True)
    gpus = [torch.cuda.get_rng_state(gpu).tolist() for gpu in _gpus()]
    return random.getstate(), arrays[1].tobytes(), arrays[2], gpus  # type: ignore[index]


def _gpus() -> list[int]:
    """The GPUs that this process uses; to ask for them must not start any."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


@contextlib.contextmanager
def kept_process_state() -> Iterator[None]:
    """Inside, no autocast. Random states, dtype, gradient mode, threads and environment are then as before."""
    numbers, arrays = random.getstate(), np.random.get_state()
    dtype, gradients, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    environment = dict(os.environ)
    try:
        with contextlib.ExitStack() as inside:
            inside.enter_context(torch.random.fork_rng(devices=_gpus()))
            for device in ("cpu", "cuda") if _gpus() else ("cpu",):
                inside.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        random.setstate(numbers)
        np.random.set_state(arrays)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if os.environ != environment:  # torch's compiler sets variables when it is imported
            os.environ.clear()
            os.environ.update(environment)
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
