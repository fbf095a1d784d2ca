"""Putting weights into a network: every name and shape must agree, but for the prefixes of training frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from secure_ai.core.errors import StateMismatchError

SHOWN_KEYS = 4
WRAPPERS = ("module", "_orig_mod", "model", "net", "network", "backbone", "encoder", "student", "ema_model")
"""What DataParallel, torch.compile and training frameworks put before every name."""
MOST_WRAPPERS = 4


def fit_state(network: nn.Module, state: Mapping[str, Tensor], *, where: str) -> tuple[str, ...]:
    """Put `state` into the network, in place; every name and shape must agree.

    A prefix of a wrapper that stands before every name is left out, where the names then agree. Weights in another
    float type than the network's become the network's.

    Returns:
        What was changed so that the weights fit, one sentence each.

    Raises:
        StateMismatchError: with the names that are missing, unexpected, of another shape or of another type.
    """
    wanted = network.state_dict()
    prefix = _wrapper(wanted, state)
    state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    problems = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "other shape or type": [
            f"{name} {_described(state[name])} for {_described(wanted[name])}"
            for name in sorted(wanted.keys() & state.keys())
            if not _fits(state[name], wanted[name])
        ],
    }
    found = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names)
    if found:
        raise StateMismatchError(
            "the weights do not fit the architecture",
            where=where,
            expected=f"{len(wanted)} tensors of the architecture",
            got=found,
        )
    notes = [f"`{prefix}` was left out of the names of the weights"] if prefix else []
    types = sorted({_type(t) for name, t in state.items() if t.dtype != wanted[name].dtype})
    notes += [f"weights stored as {', '.join(types)} were converted"] if types else []
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:  # a user's network may load in its own way
        raise StateMismatchError("the network refuses its weights", where=where, got=error) from None
    return tuple(notes)


def _wrapper(wanted: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """The prefix of wrappers without which the names are those wanted; empty where there is none."""
    if not state or state.keys() == wanted.keys():
        return ""
    parts = next(iter(state)).split(".")[:MOST_WRAPPERS]
    for count in range(1, len(parts) + 1):
        if parts[count - 1] not in WRAPPERS:
            break
        prefix = ".".join(parts[:count]) + "."
        if all(name.startswith(prefix) for name in state) and {n.removeprefix(prefix) for n in state} == wanted.keys():
            return prefix
    return ""


def _fits(given: Tensor, wanted: Any) -> bool:
    if not isinstance(wanted, Tensor) or given.shape != wanted.shape:
        return False
    return given.dtype == wanted.dtype or (given.is_floating_point() and wanted.is_floating_point())


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _described(tensor: Any) -> str:
    return f"{tuple(tensor.shape)} {_type(tensor)}" if isinstance(tensor, Tensor) else type(tensor).__name__


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_KEYS
    return ", ".join(names[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
