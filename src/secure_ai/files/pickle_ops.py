"""Reading a pickle's opcodes without running any of them.

Own code and not `pickletools.genops`, because that decodes escapes in names where the unpickler does not: a reader that
judges must see exactly what a reader that obeys would see.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from secure_ai.core.errors import PickleRefusedError
from secure_ai.files.open import MIB

MAX_PICKLE_BYTES = 16 * MIB
MAX_OPCODES = 200_000  # 4,096 tensors need 130,000
_MAX_NAME_BYTES = 512

# Opcode -> how its argument is written: nothing, a number of N bytes, a length of N bytes and then text or an integer,
# or two lines (module, name). Every other opcode is refused by name.
_ARGUMENTS: dict[str, str] = {
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


def read_operations(content: bytes, *, where: str) -> Iterator[Operation]:
    """Yield every opcode up to STOP, which must be the last byte.

    Raises:
        PickleRefusedError: an opcode outside the table above, a cut argument, anything behind STOP, or a limit.
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise _refuse("the pickle is too large", where, 0, expected=f"<= {MAX_PICKLE_BYTES} bytes", got=len(content))
    position = 0
    for _ in range(MAX_OPCODES):
        if position >= len(content):
            raise _refuse("the pickle ends without STOP", where, position)
        name = _CODES.get(content[position], f"{content[position]:#04x}")
        if name not in _ARGUMENTS:
            raise _refuse("an opcode that no state dict needs", where, position, expected="plain tensors", got=name)
        argument, end = _argument(_ARGUMENTS[name], content, position + 1, where)
        yield Operation(name, argument, position)
        position = end
        if name == "STOP":
            if position != len(content):
                raise _refuse("bytes behind STOP", where, position, expected="the end", got=content[position:][:16])
            return
    raise _refuse("too many opcodes", where, position, expected=f"<= {MAX_OPCODES}")


def _refuse(message: str, where: str, offset: int, *, expected: Any = "", got: Any = "") -> PickleRefusedError:
    return PickleRefusedError(message, where=f"{where} byte {offset}", expected=expected, got=got)


def _argument(kind: str, content: bytes, position: int, where: str) -> tuple[Any, int]:
    if not kind:
        return None, position
    if kind in _NUMBERS:
        layout = _NUMBERS[kind]
        return layout.unpack(_take(content, position, layout.size, where))[0], position + layout.size
    if kind == "lines":
        module, middle = _line(content, position, where)
        name, end = _line(content, middle, where)
        return (module, name), end
    width = int(kind[-1])
    length = int.from_bytes(_take(content, position, width, where), "little")
    raw = _take(content, position + width, length, where)
    end = position + width + length
    if kind.startswith("long"):
        return int.from_bytes(raw, "little", signed=True), end
    try:
        return raw.decode("utf-8"), end
    except UnicodeDecodeError:
        raise _refuse("text is not UTF-8", where, position) from None


def _take(content: bytes, position: int, count: int, where: str) -> bytes:
    taken = content[position : position + count]
    if len(taken) != count:
        raise _refuse("the pickle is cut", where, position, expected=f"{count} bytes", got=len(taken))
    return taken


def _line(content: bytes, position: int, where: str) -> tuple[str, int]:
    end = content.find(b"\n", position, position + _MAX_NAME_BYTES)
    if end < 0:
        raise _refuse("a name without an end", where, position, expected=f"<= {_MAX_NAME_BYTES} bytes")
    return content[position:end].decode("latin-1"), end + 1
