"""The pickle judge: may this pickle be a torch state dict, and nothing else?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from secure_ai.core.errors import PickleRefusedError, printable
from secure_ai.files.pickle_machine import DictValue, Machine, Storage, TensorView, kind_of
from secure_ai.files.pickle_ops import read_operations
from secure_ai.files.safetensors import MAX_TENSORS, TENSOR_NAME
from secure_ai.files.violation import ViolatedError, Violation

MAX_VIOLATIONS = 1000
EXPECTED = f"1 to {MAX_TENSORS} tensors by name"
HINT = "save the state dict alone: torch.save(model.state_dict(), FILE), or as safetensors"


@dataclass(frozen=True, slots=True)
class StateDictPickle:
    """A judged pickle: what `torch.load` will make of it."""

    protocol: int
    tensors: dict[str, TensorView]
    storages: dict[str, Storage]


def scan(content: bytes) -> tuple[Violation, ...]:
    """Everything that keeps this pickle from holding one dict from text to tensors, in the order of its bytes.

    At most MAX_VIOLATIONS are listed. What stands inside a dict is judged only where every opcode is sound.
    """
    machine = _run(content, MAX_VIOLATIONS)
    return tuple(machine.violations or _judge(machine, "")[1])


def judge_state_dict_pickle(content: bytes, *, where: str, weights_key: str = "") -> StateDictPickle:
    """Accept the pickle of a dict from text to tensors, or of a checkpoint that holds one, or refuse.

    Of a checkpoint the tensors stand under one key, whatever its name; the other entries (epochs, losses, the state of
    an optimiser) must be harmless too, and are left out.

    Args:
        weights_key: which entry holds the tensors, where several do; empty: the only one.

    Raises:
        PickleRefusedError: for the first of `scan`'s violations, naming the global or opcode, and the byte.
    """
    machine = _run(content, 1)
    judged, violations = _judge(machine, weights_key) if not machine.violations else (None, machine.violations)
    if judged is None:
        raise violations[0].error(PickleRefusedError, where=where, hint=violations[0].hint or HINT)
    return judged


def judge_plain_pickle(content: bytes, *, where: str) -> Any:
    """What a pickle of numbers, text, lists and dicts holds (a dict as `DictValue`). Raises as above."""
    machine = _run(content, 1)
    if machine.violations:
        raise machine.violations[0].error(PickleRefusedError, where=where, hint=HINT)
    return machine.result


def _run(content: bytes, most: int) -> Machine:
    machine = Machine()
    try:
        for operation in read_operations(content):
            machine.step(operation)
            if len(machine.violations) >= most:
                break
    except ViolatedError as end:
        machine.violations.append(end.violation)
    return machine


def _judge(machine: Machine, weights_key: str) -> tuple[StateDictPickle | None, list[Violation]]:
    """The state dict that a sound machine ended with, or what is wrong with it."""
    top = machine.result
    if not isinstance(top, DictValue):
        return None, [_violation("", "not a state dict", EXPECTED, kind_of(top))]
    known: dict[int, bool] = {}  # a file may name one large dict many times
    keys = [str(key) for key, value in top.entries.items() if isinstance(key, str) and _holds_tensors(value, known)]
    if weights_key and weights_key not in keys:
        return None, [_violation("", "no state dict of that name", ", ".join(keys) or "none in it", weights_key)]
    if len(keys) > 1 and not weights_key:
        what = "several state dicts in one file"
        return None, [replace(_violation("", what, "one", ", ".join(keys)), hint=f"--weights-key {keys[0]}")]
    chosen = weights_key or "".join(keys)
    entries = top.entries[chosen].entries if chosen else top.entries
    if not 1 <= len(entries) <= MAX_TENSORS:
        return None, [_violation("", "not a state dict", EXPECTED, f"{len(entries)} entries")]
    found = (_entry(name, value) for name, value in entries.items())
    violations = [violation for violation in found if violation is not None]
    if violations:
        return None, violations
    return StateDictPickle(machine.protocol, dict(entries), machine.storages), []


def _holds_tensors(value: object, known: dict[int, bool]) -> bool:
    """Whether it is a dict of nothing but named tensors; that of an optimiser holds dicts."""
    if not isinstance(value, DictValue):
        return False
    if id(value) not in known:
        known[id(value)] = bool(value.entries) and not any(_entry(*entry) for entry in value.entries.items())
    return known[id(value)]


def _entry(name: object, value: object) -> Violation | None:
    if not isinstance(name, str) or not TENSOR_NAME.fullmatch(name) or not isinstance(value, TensorView):
        expected = f"a name {TENSOR_NAME.pattern} and a tensor, or one entry with nothing but such"
        return _violation(name, "an entry of the state dict is not a named tensor", expected, kind_of(value))
    return None


def _violation(place: object, what: str, expected: str, got: str) -> Violation:
    return Violation(printable(place), "state-dict", what, expected, printable(got))
