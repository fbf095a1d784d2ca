"""The pickle judge: may this pickle be a torch state dict, and nothing else?"""

from __future__ import annotations

from dataclasses import dataclass

from secure_ai.core.errors import PickleRefusedError, printable
from secure_ai.files.pickle_machine import DictValue, Machine, Storage, TensorView, kind_of
from secure_ai.files.pickle_ops import read_operations
from secure_ai.files.safetensors import MAX_TENSORS, TENSOR_NAME
from secure_ai.files.violation import ViolatedError, Violation

NESTING_KEYS = ("state_dict", "model")
MAX_VIOLATIONS = 1000
HINT = "save the state dict alone: torch.save(model.state_dict(), FILE), or as safetensors"


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


def scan(content: bytes) -> tuple[Violation, ...]:
    """Everything that keeps this pickle from being a flat dict from text to tensors, in the order of its bytes.

    At most MAX_VIOLATIONS are listed. What stands inside a dict is judged only where every opcode is sound.
    """
    machine = _run(content, MAX_VIOLATIONS)
    return tuple(machine.violations or _judge(machine)[1])


def judge_state_dict_pickle(content: bytes, *, where: str) -> StateDictPickle:
    """Accept the pickle of a flat dict from text to tensors, or refuse.

    One nesting is known: a checkpoint dict whose tensors stand under `state_dict` or `model`; its other entries must
    be harmless too, and are left out.

    Raises:
        PickleRefusedError: for the first of `scan`'s violations, naming the global or opcode, and the byte.
    """
    machine = _run(content, 1)
    judged, violations = _judge(machine) if not machine.violations else (None, machine.violations)
    if judged is None:
        raise violations[0].error(PickleRefusedError, where=where, hint=HINT)
    return judged


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


def _judge(machine: Machine) -> tuple[StateDictPickle | None, list[Violation]]:
    """The state dict that a sound machine ended with, or what is wrong with it."""
    top = machine.result
    keys = [key for key in NESTING_KEYS if isinstance(top, DictValue) and isinstance(top.entries.get(key), DictValue)]
    if len(keys) > 1:
        return None, [_violation("", "two state dicts in one file", "one", " and ".join(keys))]
    chosen = top.entries[keys[0]] if keys else top
    if not isinstance(chosen, DictValue) or not 1 <= len(chosen.entries) <= MAX_TENSORS:
        got = f"{len(chosen.entries)} entries" if isinstance(chosen, DictValue) else kind_of(chosen)
        return None, [_violation("", "not a state dict", f"1 to {MAX_TENSORS} tensors by name", got)]
    entries = (_entry(name, value) for name, value in chosen.entries.items())
    violations = [violation for violation in entries if violation is not None]
    if violations:
        return None, violations
    return StateDictPickle(machine.protocol, dict(chosen.entries), machine.storages, "".join(keys)), []


def _entry(name: object, value: object) -> Violation | None:
    if isinstance(value, DictValue):
        keys = ", ".join(repr(key) for key in NESTING_KEYS)
        expected = f"tensors at the top, or under one of {keys}"
        return _violation(name, "a dict inside the state dict", expected, kind_of(value))
    if not isinstance(name, str) or not TENSOR_NAME.fullmatch(name) or not isinstance(value, TensorView):
        expected = f"a name {TENSOR_NAME.pattern} and a tensor"
        return _violation(name, "an entry of the state dict is not a named tensor", expected, kind_of(value))
    return None


def _violation(place: object, what: str, expected: str, got: str) -> Violation:
    return Violation(printable(place), "state-dict", what, expected, printable(got))
