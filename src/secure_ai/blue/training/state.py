"""A training's state as plain tensors, and as the bytes of a safetensors file: nothing in it can run code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from secure_ai.core.errors import StateMismatchError
from secure_ai.files.open import FileBytes
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes
from secure_ai.models.tensors import array_to_tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NETWORK = "network."
OPTIMIZER = "optimizer."
HistoryType = TypeVar("HistoryType")


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """Weights and buffers, Adam's moments keyed `<parameter index>.<moment>`, epochs done and the history so far."""

    network: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    epochs_done: int
    history: dict[str, list[float]]

    def history_as(self, make: Callable[..., HistoryType]) -> HistoryType:
        """The history as the loop's own value, on lists of its own."""
        return make(**{name: list(values) for name, values in self.history.items()})

    def to_bytes(self) -> bytes:
        """A safetensors file."""
        tensors = {NETWORK + name: value.numpy() for name, value in self.network.items()}
        tensors |= {OPTIMIZER + name: value.numpy() for name, value in self.optimizer.items()}
        return safetensors_bytes(
            tensors, {"epochs_done": str(self.epochs_done), "history": json.dumps(self.history, sort_keys=True)}
        )


def state_from_bytes(content: bytes, name: str) -> TrainingState:
    """The inverse of `TrainingState.to_bytes`. Raises SafetensorsError or StateMismatchError."""
    read = read_safetensors(FileBytes(name, content))
    tensors = {key: array_to_tensor(value) for key, value in read.tensors.items()}
    try:
        history, done = json.loads(read.metadata["history"]), int(read.metadata["epochs_done"])
    except (KeyError, ValueError):
        raise StateMismatchError("not a training state", where=name, expected="history and epochs_done") from None

    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    return TrainingState(part(NETWORK), part(OPTIMIZER), done, history)


def snapshot(
    network: nn.Module, optimizer: torch.optim.Optimizer, history: DataclassInstance, epochs_done: int
) -> TrainingState:
    """A copy of everything that the rest of the training depends on."""
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    return TrainingState(weights, snapshot_of(optimizer), epochs_done, asdict(history))


def snapshot_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """A copy of the optimizer's moments, keyed `<parameter index>.<moment>`."""
    return {
        f"{index}.{name}": value.detach().cpu().clone().contiguous()
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
        if isinstance(value, Tensor)
    }


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy with the parameter's strides: the fused Adam walks memory, and would pair elements of other layouts."""
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def restore(
    network: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Tensor] | None, moments: dict[str, Tensor]
) -> None:
    """Put weights (where given) and Adam's moments back.

    Raises:
        StateMismatchError: the moments do not belong to this network's parameters.
    """
    if weights is not None:
        network.load_state_dict(weights)
    parameters = list(network.parameters())
    state: dict[int, dict[str, Any]] = {}
    for key, value in moments.items():
        index, _, name = key.partition(".")
        fits = index.isdigit() and int(index) < len(parameters)
        if not fits or (name != "step" and value.shape != parameters[int(index)].shape):
            raise StateMismatchError("the optimizer state does not fit the network", where=key, got=tuple(value.shape))
        kept = value.clone() if name == "step" else _laid_out_as(parameters[int(index)], value)
        state.setdefault(int(index), {})[name] = kept
    content = optimizer.state_dict()
    content["state"] = state
    optimizer.load_state_dict(content)
