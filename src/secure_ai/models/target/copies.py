"""Which networks several threads may call at once, and copies for the others.

A layer of torch's keeps nothing between two calls in evaluation mode, so that all threads may share a network made of
those. A user's own module may keep state: every thread gets a copy, if copies share nothing that can be seen.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

OWN = frozenset(
    f"secure_ai.models.{name}"
    for name in ("networks.built_in", "load.keras_io", "load.keras_modules", "target.wrappers")
)
"""This package's modules of networks and layers."""
MAX_COPIES_BYTES = 2 << 30
"""Of all copies of a network together."""


def is_shareable(network: nn.Module) -> bool:
    """Whether threads may call `network` at once: in evaluation mode, only layers of torch.nn and of this package."""
    return not _has_any_global_hook() and all(_is_known(module) and _is_plain(module) for module in network.modules())


def why_not_copied(network: nn.Module, count: int) -> str:
    """Why `count` copies of the network cannot be made to share nothing; empty where they can."""
    if _has_any_global_hook() or any(_has_hooks(module) for module in network.modules()):
        return "the network has hooks"
    if any(hasattr(type(module), "__deepcopy__") for module in network.modules()):
        return "a module says itself how it is copied"
    size = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    if count * size > MAX_COPIES_BYTES:
        return f"{count} copies of the network would take more than 2 GiB"
    if any(_closes_over(value) for module in network.modules() for value in vars(module).values()):
        return "a module keeps a function with variables of its own"
    return ""


def copies_of(network: nn.Module, count: int) -> tuple[nn.Module, ...] | None:
    """Deep copies; None where it cannot be copied, or a copy shares a module or the memory of a tensor.

    Raises:
        KeyboardInterrupt, MemoryError: in the user's code.
    """
    kept = _storages(network.parameters()) | _storages(network.buffers())
    modules = set(network.modules())
    copies = []
    for _ in range(count):
        memo: dict[int, Any] = {}
        try:
            found = copy.deepcopy(network, memo)
        except Exception:  # noqa: BLE001 - a user's module may raise anything
            return None
        originals = memo.pop(id(memo), [])  # where deepcopy keeps them alive
        kept |= _storages(value for value in originals if isinstance(value, Tensor))
        mine = _storages(value for value in memo.values() if isinstance(value, Tensor))
        if type(found) is not type(network) or mine & kept or modules & set(found.modules()):
            return None
        kept |= mine
        modules |= set(found.modules())
        copies.append(found)
    return tuple(copies)


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A value and how often it was written to or how much it holds; equal only to the same value in the same state.

    It keeps the value alive: else what replaces it may get its place in memory and look like it.
    """

    value: object
    state: int

    def __eq__(self, other: object) -> bool:
        """The same object, not one that looks like it."""
        return isinstance(other, Held) and self.value is other.value and self.state == other.state

    __hash__ = None  # type: ignore[assignment]


def outside_state(network: nn.Module) -> dict[str, Held]:
    """What the modules' classes and the Python files that define them hold, which all copies share.

    Compared before and after a call it shows a value that was put in place of another, and one that was written to.
    """
    holders: dict[str, Any] = {}
    for module in network.modules():
        for kind in type(module).__mro__:
            if not kind.__module__.startswith(("torch.", "builtins", "secure_ai.")):
                holders[f"{kind.__module__}.{kind.__qualname__}"] = vars(kind)
                holders |= {f"{kind.__module__} {name}": names for name, names in _globals_of(kind)}
    return {f"{where}: {name}": _held(value) for where, names in holders.items() for name, value in names.items()}


def _globals_of(kind: type) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in vars(kind).items():
        if isinstance(value, types.FunctionType):
            yield name, value.__globals__


def _held(value: object) -> Held:
    if isinstance(value, Tensor):
        return Held(value, 0 if value.is_inference() else value._version)
    return Held(value, len(value) if isinstance(value, list | dict | set) else 0)


def _is_known(module: nn.Module) -> bool:
    """A class of torch.nn itself without functions of the user's in it, or one of this package."""
    kind = type(module)
    if kind.__module__ in OWN:
        return True
    return getattr(nn, kind.__name__, None) is kind and not any(callable(value) for value in vars(module).values())


def _is_plain(module: nn.Module) -> bool:
    """In evaluation mode, without hooks, with the forward pass of its class and plain tensors."""
    tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    changed = "forward" in vars(module) or module._compiled_call_impl is not None
    plain = all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
    return not module.training and not _has_hooks(module) and not changed and plain


def _has_hooks(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def _closes_over(value: object) -> bool:
    return isinstance(value, types.FunctionType) and value.__closure__ is not None


def _storages(tensors: Any) -> set[int]:
    pointers = {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.layout is torch.strided}
    return pointers - {0}
