"""Putting weights into a network: every name, shape and type must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from secure_ai.core.errors import StateMismatchError

SHOWN_KEYS = 4


def fit_state(network: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Put `state` into the network, in place; every name, shape and type must agree.

    Raises:
        StateMismatchError: with the names that are missing, unexpected, of another shape or of another type.
    """
    wanted = network.state_dict()
    problems = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "other shape or type": [
            f"{name} {_described(state[name])} for {_described(wanted[name])}"
            for name in sorted(wanted.keys() & state.keys())
            if _described(state[name]) != _described(wanted[name])
        ],
    }
    found = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names)
    if found:
        prefixed = problems["missing"] and {name.removeprefix("module.") for name in state} == wanted.keys()
        hint = "the names begin with `module.`: save the state_dict() of the network inside DataParallel"
        raise StateMismatchError(
            "the weights do not fit the architecture",
            where=where,
            expected=f"{len(wanted)} tensors of the architecture",
            got=found,
            hint=hint if prefixed else "",
        )
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:  # a user's network may load in its own way
        raise StateMismatchError("the network refuses its weights", where=where, got=error) from None


def _described(tensor: Any) -> str:
    if not isinstance(tensor, Tensor):
        return type(tensor).__name__
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_KEYS
    return ", ".join(names[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
