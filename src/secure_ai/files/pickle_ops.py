"""Reading a pickle's opcodes without running any of them.

Own code and not `pickletools.genops`, because that decodes escapes in names where the unpickler does not: a reader that
judges must see exactly what a reader that obeys would see.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from secure_ai.files.open import MIB
from secure_ai.files.violation import ViolatedError

MAX_PICKLE_BYTES = 16 * MIB
MAX_OPCODES = 200_000  # 4,096 tensors need 130,000
_MAX_NAME_BYTES = 512

# Opcode -> how its argument is written: nothing, a number of N bytes, a length of N bytes and then text or an integer,
# or two lines (module, name).
ALLOWED: dict[str, str] = {
    "PROTO": "u1",
    "FRAME": "u8",
    "STOP": "",
    "MARK": "",
    "NONE": "",
    "NEWTRUE": "",
    "NEWFALSE": "",
    "BININT": "i4",
    "BININT1": "u1",
    "BININT2": "u2",
    "LONG1": "long1",
    "BINFLOAT": "f8",
    "BINUNICODE": "text4",
    "SHORT_BINUNICODE": "text1",
    "EMPTY_TUPLE": "",
    "TUPLE": "",
    "TUPLE1": "",
    "TUPLE2": "",
    "TUPLE3": "",
    "EMPTY_LIST": "",
    "APPEND": "",
    "APPENDS": "",
    "EMPTY_DICT": "",
    "SETITEM": "",
    "SETITEMS": "",
    "BINPUT": "u1",
    "LONG_BINPUT": "u4",
    "MEMOIZE": "",
    "BINGET": "u1",
    "LONG_BINGET": "u4",
    "GLOBAL": "lines",
    "INST": "lines",
    "STACK_GLOBAL": "",
    "REDUCE": "",
    "BUILD": "",
    "BINPERSID": "",
}
# The others, so that a scan can tell what stands behind them.
_ARGUMENTS = ALLOWED | {
    **dict.fromkeys(("INT", "LONG", "FLOAT", "STRING", "UNICODE", "PERSID", "GET", "PUT"), "line"),
    **{"LONG4": "bytes4", "BINSTRING": "bytes4", "SHORT_BINSTRING": "bytes1", "BINBYTES": "bytes4"},
    **{"SHORT_BINBYTES": "bytes1", "BINBYTES8": "bytes8", "BYTEARRAY8": "bytes8", "BINUNICODE8": "bytes8"},
    **{"EXT1": "u1", "EXT2": "u2", "EXT4": "u4"},
}
_CODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_NUMBERS = {
    "u1": struct.Struct("<B"),
    "u2": struct.Struct("<H"),
    "u4": struct.Struct("<L"),
    "u8": struct.Struct("<Q"),
    "i4": struct.Struct("<l"),
    "f8": struct.Struct(">d"),
}


class Operation(NamedTuple):
    """One opcode, its argument (a number, text, `(module, name)` or None) and the byte it stands at."""

    name: str
    argument: Any
    offset: int


class Effect(NamedTuple):
    """What an opcode does to the stack: whether it takes all down to a MARK, how many more, how many it leaves."""

    to_mark: bool
    takes: int
    leaves: int


def _effect(before: list[Any], after: list[Any]) -> Effect:
    to_mark = pickletools.markobject in before
    return Effect(to_mark, before.index(pickletools.markobject) if to_mark else len(before), len(after))


EFFECTS = {opcode.name: _effect(opcode.stack_before, opcode.stack_after) for opcode in pickletools.opcodes}


def first_pickle(content: bytes, start: int) -> bytes:
    """The bytes of the pickle that begins at `start`, up to and with its STOP. Raises ViolatedError without one."""
    window = content[start : start + MAX_PICKLE_BYTES]
    end = 0
    for operation in read_operations(window, more=True):
        end = operation.offset + 1
    return window[:end]


def read_operations(content: bytes, *, more: bool = False) -> Iterator[Operation]:
    """Yield every opcode up to STOP, which must be the last byte unless there may be `more`; also those not `ALLOWED`.

    Raises:
        ViolatedError: a byte that is no opcode, a cut argument, anything behind STOP, or a limit.
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise _violated("limit", "the pickle is too large", 0, f"<= {MAX_PICKLE_BYTES} bytes", len(content))
    position = 0
    for _ in range(MAX_OPCODES):
        if position >= len(content):
            raise _violated("cut", "the pickle ends without STOP", position)
        name = _CODES.get(content[position], "")
        if not name:
            raise _violated("opcode", "a byte that is no opcode", position, got=f"{content[position]:#04x}")
        argument, end = _argument(_ARGUMENTS.get(name, ""), content, position + 1)
        yield Operation(name, argument, position)
        position = end
        if name == "STOP":
            if position != len(content) and not more:
                raise _violated("cut", "bytes behind STOP", position, "the end", content[position : position + 16])
            return
    raise _violated("limit", "too many opcodes", position, f"<= {MAX_OPCODES}")


def _violated(rule: str, what: str, offset: int, expected: Any = "", got: Any = "") -> ViolatedError:
    return ViolatedError(f"byte {offset}", rule, what, expected, got)


def _argument(kind: str, content: bytes, position: int) -> tuple[Any, int]:
    if not kind:
        return None, position
    if kind in _NUMBERS:
        layout = _NUMBERS[kind]
        return layout.unpack(_take(content, position, layout.size))[0], position + layout.size
    if kind == "lines":
        module, middle = _line(content, position)
        name, end = _line(content, middle)
        return (module, name), end
    if kind == "line":
        return _line(content, position)
    width = int(kind[-1])
    length = int.from_bytes(_take(content, position, width), "little")
    raw = _take(content, position + width, length)
    end = position + width + length
    if kind.startswith("long"):
        return int.from_bytes(raw, "little", signed=True), end
    if kind.startswith("bytes"):
        return raw, end
    try:
        return raw.decode("utf-8"), end
    except UnicodeDecodeError:
        raise _violated("text", "text is not UTF-8", position) from None


def _take(content: bytes, position: int, count: int) -> bytes:
    taken = content[position : position + count]
    if len(taken) != count:
        raise _violated("cut", "the pickle is cut", position, f"{count} bytes", len(taken))
    return taken


def _line(content: bytes, position: int) -> tuple[str, int]:
    end = content.find(b"\n", position, position + _MAX_NAME_BYTES)
    if end < 0:
        raise _violated("cut", "a name without an end", position, f"<= {_MAX_NAME_BYTES} bytes")
    return content[position:end].decode("latin-1"), end + 1
