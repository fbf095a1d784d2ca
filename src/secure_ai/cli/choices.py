"""Options with a closed list of words: taken in any case, and a word that is none is told the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from cyclopts import Parameter, Token


def _words(kind: Any) -> tuple[str, ...]:
    """The words of a Literal, or of an optional one."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(word for part in get_args(kind) for word in _words(part))


def in_any_case(kind: Any, tokens: Sequence[Token]) -> str:
    """The word of the list that was typed, whatever its case. Raises ValueError, which becomes a refusal."""
    text, words = tokens[0].value, _words(kind)
    lower = text.lower()
    if lower in words:
        return lower
    near = difflib.get_close_matches(lower, words, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"{text!r} is not one of {', '.join(words)}{hint}")


ANY_CASE = Parameter(converter=in_any_case)
