"""The trust verdict: may a number be believed, from named checks with evidence.

The verdict belongs to a number and the attacks that made it, never to a model.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SAMPLE_SIZE = "sample-size"
MIN_N_FOR_A_CLAIM = 1000  # below this a rate is indicative and passes no gate
FED_WRONGLY = frozenset(
    {"input-range", "input-normalisation", "image-orientation", "label-order", "class-names", "clean-accuracy"}
)
"""Checks whose failure means that the network evidently does not get what it was trained on: nothing is concluded."""


class Verdict(enum.StrEnum):
    """From best to worst."""

    RELIABLE = "reliable"
    DOUBTFUL = "doubtful"
    BROKEN = "broken"


class CheckOutcome(enum.StrEnum):
    """`not_run` never counts as a pass."""

    PASS = "pass"  # noqa: S105  # an outcome, not a password
    FAIL = "fail"
    NOT_RUN = "not_run"


@dataclass(frozen=True, slots=True)
class Check:
    """One named check, its outcome and the measurement that decided it."""

    id: str
    outcome: CheckOutcome
    evidence: str

    def as_json(self) -> dict[str, str]:
        """The entry of `trust.checks`."""
        return {"id": self.id, "outcome": self.outcome.value, "evidence": self.evidence}


@dataclass(frozen=True, slots=True)
class Trust:
    """A verdict and the checks behind it.

    Attributes:
        not_run: ids of the checks that could not run; always follows from `checks`.
    """

    verdict: Verdict
    checks: tuple[Check, ...]
    not_run: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Say which checks did not run, whatever was passed in."""
        ids = tuple(check.id for check in self.checks if check.outcome is CheckOutcome.NOT_RUN)
        object.__setattr__(self, "not_run", ids)

    def as_json(self) -> dict[str, Any]:
        """The `trust` object."""
        return {
            "verdict": self.verdict.value,
            "checks": [check.as_json() for check in self.checks],
            "not_run": list(self.not_run),
        }

    @property
    def reasons(self) -> list[str]:
        """Evidence of every check that failed."""
        return [check.evidence for check in self.checks if check.outcome is CheckOutcome.FAIL]


def fed_wrongly(checks: Iterable[Check]) -> tuple[Check, ...]:
    """The failed checks that say so: no figure under attack then says anything of the model."""
    return tuple(made for made in checks if made.id in FED_WRONGLY and made.outcome is CheckOutcome.FAIL)


def wrong_inputs(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Of `fed_wrongly` the causes: a low clean accuracy follows from any of the others."""
    wrong = fed_wrongly(checks)
    return tuple(made for made in wrong if made.id != "clean-accuracy") or wrong


def input_warning(checks: Iterable[Check]) -> str:
    """What the first line of every format says of a model that is fed otherwise than it was trained; else empty."""
    causes = wrong_inputs(checks)
    return f"{'; '.join(made.evidence for made in causes)}. Correct this and run again." if causes else ""


def not_passed(checks: Sequence[Check]) -> dict[tuple[CheckOutcome, str], list[str]]:
    """Ids of what did not pass, failed checks first, by outcome and evidence: what is the same is said once."""
    found: dict[tuple[CheckOutcome, str], list[str]] = {}
    for outcome in (CheckOutcome.FAIL, CheckOutcome.NOT_RUN):
        for made in checks:
            if made.outcome is outcome:
                found.setdefault((outcome, made.evidence), []).append(made.id)
    return found


def check(identifier: str, ok: bool | None, evidence: str) -> Check:
    """A check from a yes, a no, or None for one that could not run."""
    outcome = CheckOutcome.NOT_RUN if ok is None else CheckOutcome.PASS if ok else CheckOutcome.FAIL
    return Check(identifier, outcome, evidence)


def judge(checks: Sequence[Check], *, breaking: frozenset[str]) -> Trust:
    """The verdict over `checks`: broken if one of `breaking` failed, doubtful if any other failed or none ran.

    Args:
        checks: in the order to be shown.
        breaking: ids whose failure means that the number is wrong, not merely weak.
    """
    failed = {c.id for c in checks if c.outcome is CheckOutcome.FAIL}
    if failed & breaking:
        return Trust(Verdict.BROKEN, tuple(checks))
    ran = any(c.outcome is not CheckOutcome.NOT_RUN for c in checks)
    return Trust(Verdict.DOUBTFUL if failed or not ran else Verdict.RELIABLE, tuple(checks))


def sample_size_check(n: int) -> Check:
    """Fails below the n that a claim needs."""
    return check(SAMPLE_SIZE, n >= MIN_N_FOR_A_CLAIM, f"n = {n}; a claim needs n >= {MIN_N_FOR_A_CLAIM}")
