"""How words of `--attack` are refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from secure_ai.core.errors import AttackSettingsError


def refusal(
    message: str, *, expected: object, got: object, where: str = "--attack", hint: str = ""
) -> AttackSettingsError:
    """The error for a name or setting that does not exist."""
    return AttackSettingsError(message, where=where, expected=expected, got=got, hint=hint)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that is most like `word`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {found[0]}?" if found else ""
