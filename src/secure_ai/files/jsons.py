"""Strict JSON: one meaning for every text, and no text that costs more than its size."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from secure_ai.core.errors import JsonError
from secure_ai.files.open import MIB

MAX_JSON_BYTES = 4 * MIB
MAX_JSON_DEPTH = 32
# A string as a whole (so that brackets inside do not count), or one bracket. The possessive `*+` keeps it linear.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def parse_json(content: bytes, *, where: str, max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """The value of a JSON text.

    Refused, although Python's parser takes them: a byte-order mark, duplicate keys, NaN and infinity (also as 1e400),
    halves of surrogate pairs, and nesting deeper than `max_depth`, which is counted before anything is parsed.

    Args:
        where: named in errors.

    Raises:
        JsonError
    """
    if len(content) > max_bytes:
        raise JsonError("the JSON text is too large", where=where, expected=f"<= {max_bytes} bytes", got=len(content))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError("not UTF-8", where=f"{where} byte {error.start}", expected="UTF-8 without BOM") from None
    if text.startswith("\ufeff"):
        raise JsonError("a byte-order mark stands at the start", where=where, expected="UTF-8 without BOM")
    _refuse_deep(text, where, max_depth)
    try:
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: _object(pairs, where),
            parse_constant=lambda name: _not_finite(name, where),
            parse_float=lambda digits: _float(digits, where),
        )
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise JsonError("half of a surrogate pair", where=where, expected="whole characters") from None
    except json.JSONDecodeError as error:
        raise JsonError("not JSON", where=f"{where} line {error.lineno} column {error.colno}", got=error.msg) from None
    except ValueError:
        raise JsonError("a number has too many digits", where=where) from None
    return value


def _refuse_deep(text: str, where: str, max_depth: int) -> None:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        first = text[token.start()]
        depth += first in "[{"
        depth -= first in "]}"
        if depth > max_depth:
            raise JsonError("nested too deep", where=where, expected=f"<= {max_depth} levels")


def _object(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise JsonError("a key stands twice", where=where, expected="unique keys", got=key)
        result[key] = value
    return result


def _not_finite(name: str, where: str) -> Any:
    raise JsonError("a number is not finite", where=where, expected="a finite number", got=name)


def _float(digits: str, where: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _not_finite(digits, where)
