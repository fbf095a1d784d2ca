"""How words of `--attack` are refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from secure_ai.core.budget import Norm
from secure_ai.core.errors import AttackSettingsError
from secure_ai.red.evasion.contract import AttackPlan


def refusal(
    message: str, *, expected: object, got: object, where: str = "--attack", hint: str = ""
) -> AttackSettingsError:
    """The error for a name or setting that is none."""
    return AttackSettingsError(message, where=where, expected=expected, got=got, hint=hint)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that is most like `word`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {found[0]}?" if found else ""


def refuse_norm(plans: Sequence[AttackPlan], norm: Norm) -> None:
    """Raises AttackSettingsError for an attack that has no form in this norm."""
    for plan in plans:
        if norm not in plan.entry.norms:
            raise refusal(f"{plan.name} has no {norm} form", expected=" or ".join(plan.entry.norms), got=norm)
