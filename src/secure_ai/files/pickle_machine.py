"""The pickle machine: an unpickler's stack and memo, filled with values that only stand for objects.

Nothing that a pickle names is imported. What may be named is a short allow-list (deny-lists miss most of what can be
named), and what may be done with each name is fixed too: anything else, or anything that cannot be resolved, is refused
with the global and the byte. After a violation the machine goes on with a value that stands for anything, so that a
scan can list the later ones. Sources: `pickletools` (opcodes), `torch.serialization`, `torch._utils`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from secure_ai.files.boundary import fits_numpy
from secure_ai.files.pickle_ops import ALLOWED, EFFECTS, Operation
from secure_ai.files.violation import ViolatedError, Violation

# Storage class -> NumPy type of its elements; bfloat16 is read as its bits.
STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "|i1",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|b1",
}
_ORDERED_DICT = "collections.OrderedDict"
_COUNTER = "collections.Counter"  # the milestones of a learning rate, in a checkpoint
_TENSOR = "torch._utils._rebuild_tensor_v2"
_OLD_TENSOR = "torch._utils._rebuild_tensor"  # before torch 0.4
_PARAMETER = "torch._utils._rebuild_parameter"
_CALLABLE = {_ORDERED_DICT, _COUNTER, _TENSOR, _OLD_TENSOR, _PARAMETER}
_NAMES = _CALLABLE | STORAGES.keys()
_MAX_DIMENSIONS = 16
MAX_KEY_DIGITS = 20  # of a storage: torch before 1.6 wrote its address, 64 bits


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of elements in the file: `data/KEY`, `count` elements of the class's type."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor as a view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(slots=True, eq=False)
class DictValue:
    """A dict or OrderedDict being filled. Compared by identity: a dict may hold itself."""

    entries: dict[Any, Any] = field(default_factory=dict)


class _Mark:
    """Where a TUPLE, SETITEMS or APPENDS begins."""


class _Unknown:
    """What an operation that broke a rule leaves; later operations may do anything with it."""


_MARK = _Mark()
_UNKNOWN = _Unknown()


def kind_of(value: Any) -> str:
    """For messages."""
    names = {DictValue: "a dict", TensorView: "a tensor", _Global: "a global", Storage: "a storage"}
    return names.get(type(value), type(value).__name__)


class Machine:
    """The unpickler's stack and memo, with values that stand for objects. `step` runs one opcode."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.protocol = -1
        self.storages: dict[str, Storage] = {}
        self.result: Any = None
        self._offset = 0
        self._stack: list[Any] = []
        self._memo: list[Any] = []

    def step(self, operation: Operation) -> None:
        """Run one opcode; what it breaks is added to `violations`."""
        self._offset = operation.offset
        if (operation.name == "PROTO") != (operation.offset == 0):
            what = "PROTO must stand first, and only there"
            self.violations.append(Violation(f"byte {self._offset}", "opcode", what, got=operation.name))
        try:
            if operation.name not in ALLOWED:
                self._foreign(operation.name)
            _STEPS[operation.name](self, operation.argument)
        except ViolatedError as violated:
            self.violations.append(violated.violation)
            if operation.name in _LEAVES_ONE:
                self._stack.append(_UNKNOWN)

    def _refuse(self, rule: str, what: str, *, expected: object = "", got: object = "") -> NoReturn:
        raise ViolatedError(f"byte {self._offset}", rule, what, expected, got)

    def _foreign(self, name: str) -> NoReturn:
        """An opcode outside the list: takes and leaves as many values as it would."""
        effect = EFFECTS[name]
        if effect.to_mark:
            self._pop_to_mark()
        for _ in range(effect.takes):
            self._pop()
        self._stack += [_UNKNOWN] * effect.leaves
        self._refuse("opcode", "an opcode that no state dict needs", expected="plain tensors", got=name)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            self._refuse("stack", "an opcode takes a value that is not there")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        self._refuse("stack", "an opcode looks for a MARK that is not there")

    def _proto(self, version: int) -> None:
        if version not in (2, 3, 4, 5):
            self._refuse("protocol", "unknown pickle protocol", expected="2 to 5", got=version)
        self.protocol = version

    def _ignore(self, _: Any) -> None:
        """FRAME only says how far to read ahead."""

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _tuple_of(self, count: int | None) -> None:
        items = self._pop_to_mark() if count is None else [self._pop() for _ in range(count)][::-1]
        self._stack.append(tuple(items))

    def _put(self, index: int | None) -> None:
        if index is not None and index != len(self._memo):
            self._refuse("memo", "the memo is filled out of order", expected=len(self._memo), got=index)
        self._memo.append(self._top())

    def _get(self, index: int) -> None:
        if index >= len(self._memo):
            self._refuse("memo", "a memo entry that is not there", expected=f"< {len(self._memo)}", got=index)
        self._stack.append(self._memo[index])

    def _top(self) -> Any:
        value = self._pop()
        self._stack.append(value)
        return value

    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if target is _UNKNOWN:
            return
        if not isinstance(target, list):
            self._refuse("container", "APPEND to something else than a list", got=kind_of(target))
        target.extend(items)

    def _append_one(self, _: Any) -> None:
        self._append([self._pop()])

    def _append_many(self, _: Any) -> None:
        self._append(self._pop_to_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        if target is _UNKNOWN:
            return
        if not isinstance(target, DictValue) or len(items) % 2:
            self._refuse("container", "SETITEMS on something else than a dict", got=kind_of(target))
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)) or key in target.entries:
                self._refuse(
                    "key",
                    "a key that is not text or a number, or stands twice",
                    got=key if isinstance(key, str) else kind_of(key),
                )
            target.entries[key] = value

    def _set_one(self, _: Any) -> None:
        value = self._pop()
        self._set_items([self._pop(), value])

    def _set_many(self, _: Any) -> None:
        self._set_items(self._pop_to_mark())

    def _name_global(self, names: tuple[str, str]) -> None:
        module, name = names
        full = f"{module}.{name}"
        if full not in _NAMES or "." in name:  # a dot in the name would fetch an attribute of an attribute
            self._stack.append(_Global(full))  # so that a scan can tell what is called
            self._refuse(
                "global", "the pickle asks for a global that no state dict needs", expected="plain tensors", got=full
            )
        self._stack.append(_Global(full))

    def _name_stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str):
            self._stack.append(_UNKNOWN)
            self._refuse(
                "global", "STACK_GLOBAL takes names that are not text", got=f"{kind_of(module)}, {kind_of(name)}"
            )
        self._name_global((module, name))

    def _inst(self, names: tuple[str, str]) -> None:
        self._pop_to_mark()
        self._refuse("global", "the pickle builds an instance", expected="plain tensors", got=".".join(names))

    def _persistent(self, _: Any) -> None:
        match self._pop():
            case ("storage", _Global(name=kind), str(key), str(), int(count), *old) if (
                kind in STORAGES and _is_size(count) and old in ([], [None])  # the old format says: no view of another
            ):
                storage = self.storages.setdefault(key, Storage(key, kind, count))
                number = key.isascii() and key.isdigit() and len(key) <= MAX_KEY_DIGITS
                if not number or storage != Storage(key, kind, count):
                    self._refuse("storage", "a storage's key is no number, or means two storages", got=key)
                self._stack.append(storage)
            case _:
                self._refuse(
                    "storage", "a persistent id that is not a storage", expected="('storage', class, key, place, count)"
                )

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if function is _UNKNOWN:
            self._stack.append(_UNKNOWN)
            return
        if not isinstance(function, _Global) or function.name not in _CALLABLE or not isinstance(arguments, tuple):
            got = function.name if isinstance(function, _Global) else kind_of(function)
            self._refuse("call", "REDUCE calls something else than a tensor's builder", got=got)
        match function.name, arguments:
            case (name, ()) if name == _ORDERED_DICT:
                self._stack.append(DictValue())
            case (name, (DictValue() as counts,)) if name == _COUNTER:
                self._stack.append(counts)
            case (
                name,
                (Storage() as storage, int(offset), tuple(shape), tuple(stride), bool(), DictValue(entries=hooks)),
            ) if name == _TENSOR and not hooks:
                self._stack.append(self._view(storage, offset, shape, stride))
            case (name, (Storage() as storage, int(offset), tuple(shape), tuple(stride))) if name == _OLD_TENSOR:
                self._stack.append(self._view(storage, offset, shape, stride))
            case (name, (TensorView() as view, bool(), DictValue(entries=hooks))) if name == _PARAMETER and not hooks:
                self._stack.append(view)
            case _:
                self._refuse("call", "a builder with unknown arguments", got=function.name)

    def _view(self, storage: Storage, offset: int, shape: tuple[Any, ...], stride: tuple[Any, ...]) -> TensorView:
        sizes = (offset, *shape, *stride)
        if len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS or not all(_is_size(size) for size in sizes):
            self._refuse(
                "tensor", "a tensor's shape, stride or offset", expected="sizes", got=f"{len(shape)} dimensions"
            )
        if not fits_numpy(shape, 8):
            self._refuse("tensor", "an impossible shape", expected="less than 2**63 bytes", got=shape)
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if 0 not in shape and last >= storage.count:
            expected = f"{storage.count} elements"
            self._refuse("tensor", "a tensor reaches beyond its storage", expected=expected, got=f"element {last}")
        return TensorView(storage, offset, shape, stride)

    def _build(self, _: Any) -> None:
        state, target = self._pop(), self._pop()
        if target is _UNKNOWN:
            self._stack.append(_UNKNOWN)
            return
        if (
            not isinstance(target, DictValue)
            or not isinstance(state, DictValue)
            or state.entries.keys() - {"_metadata"}
        ):
            self._refuse(
                "attributes", "BUILD sets attributes", expected="only _metadata of a state dict", got=kind_of(target)
            )
        self._stack.append(target)

    def _stop(self, _: Any) -> None:
        self.result = self._pop()
        if self._stack:
            self._refuse("stack", "values are left on the stack at STOP", expected="one", got=len(self._stack) + 1)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _constant(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine._push(make())


def _tuple(count: int | None) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine._tuple_of(count)


# Opcodes that take all their operands before they can break a rule, and then leave one value.
_LEAVES_ONE = frozenset(("REDUCE", "BUILD", "BINPERSID", "BINGET", "LONG_BINGET", "INST", "TUPLE"))
_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": Machine._proto,
    "FRAME": Machine._ignore,
    "STOP": Machine._stop,
    "MARK": _constant(lambda: _MARK),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "BININT": Machine._push,
    "BININT1": Machine._push,
    "BININT2": Machine._push,
    "LONG1": Machine._push,
    "BINFLOAT": Machine._push,
    "BINUNICODE": Machine._push,
    "SHORT_BINUNICODE": Machine._push,
    "EMPTY_TUPLE": _constant(tuple),
    "TUPLE": _tuple(None),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "EMPTY_LIST": _constant(list),
    "APPEND": Machine._append_one,
    "APPENDS": Machine._append_many,
    "EMPTY_DICT": _constant(DictValue),
    "SETITEM": Machine._set_one,
    "SETITEMS": Machine._set_many,
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._put,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "GLOBAL": Machine._name_global,
    "INST": Machine._inst,
    "STACK_GLOBAL": Machine._name_stack_global,
    "REDUCE": Machine._reduce,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent,
}
