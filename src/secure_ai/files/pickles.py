"""The pickle judge: may this pickle be a torch state dict, and nothing else?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from secure_ai.core.errors import PickleRefusedError
from secure_ai.files.pickle_machine import DictValue, Machine, Storage, TensorView, kind_of
from secure_ai.files.pickle_ops import read_operations
from secure_ai.files.safetensors import TENSOR_NAME

NESTING_KEYS = ("state_dict", "model")


@dataclass(frozen=True, slots=True)
class StateDictPickle:
    """A judged pickle: what `torch.load` will make of it.

    Attributes:
        nested_under: `state_dict` or `model` where the tensors stand under that key of a larger dict, else empty.
    """

    protocol: int
    tensors: dict[str, TensorView]
    storages: dict[str, Storage]
    nested_under: str


def judge_state_dict_pickle(content: bytes, *, where: str) -> StateDictPickle:
    """Accept the pickle of a flat dict from text to tensors, or refuse.

    One nesting is known: a checkpoint dict whose tensors stand under `state_dict` or `model`; its other entries must
    be harmless too, and are left out.

    Raises:
        PickleRefusedError: naming the global or opcode, and the byte.
    """
    machine = Machine(where)
    for operation in read_operations(content, where=where):
        machine.step(operation)
    top = machine.result
    nested_under = _nesting(top, where)
    chosen = top.entries[nested_under] if nested_under and isinstance(top, DictValue) else top
    if not isinstance(chosen, DictValue) or not chosen.entries:
        raise PickleRefusedError("not a state dict", where=where, expected="text to tensor", got=kind_of(chosen))
    for name, value in chosen.entries.items():
        if isinstance(value, DictValue):
            keys = ", ".join(repr(key) for key in NESTING_KEYS)
            raise PickleRefusedError(
                "a dict inside the state dict",
                where=f"{where} {name}",
                expected=f"tensors at the top, or under one of {keys}",
                got=kind_of(value),
                hint="save the state dict alone: torch.save(model.state_dict(), FILE)",
            )
        if not isinstance(name, str) or not TENSOR_NAME.fullmatch(name) or not isinstance(value, TensorView):
            raise PickleRefusedError(
                "an entry of the state dict is not a named tensor",
                where=f"{where} {name}",
                expected=f"a name {TENSOR_NAME.pattern} and a tensor",
                got=kind_of(value),
            )
    return StateDictPickle(machine.protocol, dict(chosen.entries), machine.storages, nested_under)


def _nesting(top: Any, where: str) -> str:
    if not isinstance(top, DictValue):
        return ""
    keys = [key for key in NESTING_KEYS if isinstance(top.entries.get(key), DictValue)]
    if len(keys) > 1:
        raise PickleRefusedError("two state dicts in one file", where=where, expected="one", got=" and ".join(keys))
    return keys[0] if keys else ""
