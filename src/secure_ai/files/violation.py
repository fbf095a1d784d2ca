"""What a judge finds in a file. A loader refuses on the first one, an audit lists them all."""

from __future__ import annotations

from dataclasses import dataclass

from secure_ai.core.errors import SecureAIError, printable


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that one place of a file breaks; every text is one printable line.

    Attributes:
        place: where in the file, e.g. `byte 17`.
        rule: which rule, a stable word such as `global`.
        what: what is wrong, one sentence.
        expected: the rule in full.
        got: the offending value, e.g. the name of a global.
        hint: what to do about it.
    """

    place: str
    rule: str
    what: str
    expected: str = ""
    got: str = ""
    hint: str = ""

    def error(self, kind: type[SecureAIError], *, where: str, hint: str = "") -> SecureAIError:
        """The refusal that a loader raises for it."""
        return kind(self.what, where=f"{where} {self.place}".strip(), expected=self.expected, got=self.got, hint=hint)


class ViolatedError(Exception):
    """Inside a judge: this step cannot go on."""

    def __init__(self, place: str, rule: str, what: str, expected: object = "", got: object = "") -> None:
        self.violation = Violation(printable(place), rule, what, printable(expected), printable(got))
        super().__init__(what)
