"""The arguments of an exported program's operations, each held to the kind that its parameter has in `pt2_ops`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from secure_ai.core.errors import FormatError
from secure_ai.files.pt2_ops import KINDS, WORDS

MAX_LIST = 4096
MAX_NUMBERS = 64  # of one argument: sizes, strides, parts of a split
MAX_NAME = 512
EXPORT_HINT = "torch.export.save(torch.export.export(model.eval(), (images,)), FILE) with torch 2.10 or newer"

SCALAR_TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 7: "float32", 8: "float64", 12: "bool"}
"""Number of a type in the file -> its name; others (half precision, complex, quantised) are refused."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The value that an earlier operation, or an input, has under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class TypeName:
    """A torch dtype by name."""

    name: str


def refusal(
    message: str, where: str, *, expected: object = "", got: object = "", hint: str = EXPORT_HINT
) -> FormatError:
    """The error of everything that is no plain classifier."""
    return FormatError(message, where=where, expected=expected, got=got, hint=hint)


def only(value: Any, where: str, what: str) -> tuple[str, Any]:
    """The one entry of an object that holds a choice."""
    if not isinstance(value, dict) or len(value) != 1:
        got = sorted(value)[:3] if isinstance(value, dict) else type(value).__name__
        raise refusal(f"{what} is no single choice", where, got=got)
    kind, content = next(iter(value.items()))
    return str(kind), content


def name_of(value: Any, where: str) -> str:
    """A name of the graph."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise refusal("not a name", where, expected=f"1 to {MAX_NAME} characters", got=value)
    return value


# Letter of a parameter's kind -> how one value of it is written in the file.
_WRITTEN: Mapping[str, frozenset[str]] = {
    "T": frozenset({"as_tensor"}),
    "O": frozenset({"as_tensor", "as_int", "as_float", "as_sym_int"}),
    "I": frozenset({"as_int", "as_sym_int"}),
    "N": frozenset({"as_int", "as_float", "as_bool", "as_sym_int", "as_sym_bool"}),
    "F": frozenset({"as_float", "as_int"}),
    "B": frozenset({"as_bool"}),
    "S": frozenset({"as_string"}),
    "D": frozenset({"as_scalar_type"}),
    "-": frozenset({"as_device", "as_layout", "as_memory_format", "as_bool"}),
}
_LISTS = {
    "as_ints": "as_int",
    "as_floats": "as_float",
    "as_tensors": "as_tensor",
    "as_sym_ints": "as_sym_int",
}
_SYMBOLS = {"as_sym_int": frozenset({"as_int", "as_name"}), "as_sym_bool": frozenset({"as_bool", "as_name"})}


def read_argument(value: Any, kind: str, known: Mapping[str, str], where: str) -> Any:
    """One argument: Ref, number, truth value, word, TypeName, None, or a tuple of those.

    Args:
        kind: a kind of `pt2_ops`.
        known: name of an earlier value -> T (a tensor) or I (a number).

    Raises:
        FormatError: it is of another kind, out of range, or names a value that is not known.
    """
    written, content = only(value, where, "an argument")
    if written == "as_none" and ("?" in kind or kind == "-"):
        return None
    if "*" in kind and written in _LISTS:
        most = MAX_LIST if written == "as_tensors" else MAX_NUMBERS
        if not isinstance(content, list) or len(content) > most:
            raise refusal("an argument is no list, or too long", where, expected=f"at most {most} entries")
        return tuple(_single({_LISTS[written]: entry}, kind[0], known, where) for entry in content)
    if "*" in kind and kind[0] == "T":
        _refuse_kind(written, kind, where)
    return _single(value, kind[0], known, where)


def _single(value: Any, letter: str, known: Mapping[str, str], where: str) -> Any:
    written, content = only(value, where, "an argument")
    if written not in _WRITTEN[letter]:
        _refuse_kind(written, letter, where)
    if letter == "-":
        if written == "as_bool" and content is not False:
            _refuse_kind(f"{written} {content}", letter, where)
        return None
    if written in _SYMBOLS:
        symbol, content = only(content, where, "a number")
        if symbol not in _SYMBOLS[written]:
            _refuse_kind(symbol, letter, where)
        written = symbol
    if written in ("as_tensor", "as_name"):
        name = content.get("name") if written == "as_tensor" and isinstance(content, dict) else content
        return _reference(name, "T" if written == "as_tensor" else "I", known, where)
    if written == "as_string" and isinstance(content, str) and content in WORDS:
        return content
    if written == "as_scalar_type" and type(content) is int and content in SCALAR_TYPES:
        return TypeName(SCALAR_TYPES[content])
    return _number(written, content, where)


def _refuse_kind(written: str, kind: str, where: str) -> NoReturn:
    raise refusal("an argument of another kind", where, expected=KINDS[kind[0]], got=written)


def _number(written: str, content: Any, where: str) -> int | float | bool:
    wanted = {"as_int": (int,), "as_float": (float, int), "as_bool": (bool,)}.get(written, ())
    if type(content) not in wanted or (type(content) is int and not -(1 << 63) <= content < 1 << 63):
        raise refusal("not a value of its kind", where, expected=written, got=content)
    return float(content) if written == "as_float" else content


def _reference(name: Any, letter: str, known: Mapping[str, str], where: str) -> Ref:
    if known.get(name_of(name, where)) != letter:
        raise refusal("no earlier operation gives this value", where, expected=KINDS[letter], got=name)
    return Ref(name)
