"""The one place where a list of attacks is read: text in, a `Suite` out that can be run as it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from secure_ai.core.budget import Norm
from secure_ai.core.errors import AttackSettingsError, CostLimitError
from secure_ai.models.target.access import Access, offers
from secure_ai.red.evasion.attacks import saved_examples
from secure_ai.red.evasion.attacks.art import art_plan
from secure_ai.red.evasion.contract import MARGIN_LEFT, AttackEntry, AttackPlan, Limits, Setting
from secure_ai.red.evasion.refusal import nearest, refusal
from secure_ai.red.evasion.suite.access import NEEDS
from secure_ai.red.evasion.suite.catalogue import SUITES, entry_named, names, runnable, suite_members

MAX_TEXT = 4096
MARGIN_LEFT_LIMITS: Limits = (0.0, 1.0)
MAX_PASSES = 10**10  # forward and backward passes of one run: more than a day at 100,000 a second
CLASSES_FOR_BOUND = 1000  # of FAB's cost, which grows with the classes: a bound for networks nobody has seen yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Attacks that can run: every one has a form in the norm, sees what it needs, and all of them end.

    Attributes:
        plans: in the order to be run.
        access: what the target offers.
        n: samples.
        classes: of the network; where they are not known yet, those that the labels name.

    Raises:
        AttackSettingsError: no attack, one that has no form in the norm, or one that needs more than the target offers.
        CostLimitError: more than MAX_PASSES.
    """

    plans: tuple[AttackPlan, ...]
    norm: Norm
    access: Access
    n: int
    classes: int

    def __post_init__(self) -> None:
        """Refuse what could not run."""
        if not self.plans:
            raise refusal("no attack named", expected="at least one", got="none")
        for plan in self.plans:
            if self.norm not in plan.entry.norms:
                norms = " or ".join(plan.entry.norms)
                raise refusal(f"{plan.name} has no {self.norm} form", expected=norms, got=self.norm)
            if not offers(self.access, NEEDS[plan.entry.knowledge]):
                raise _beyond(plan, self.norm, self.access)
        if self.passes > MAX_PASSES:
            raise CostLimitError(
                "these attacks would never end",
                where="--attack",
                expected=f"at most {MAX_PASSES:.0e} passes through the network",
                got=f"{self.passes:.1e} for {self.n} samples",
                hint="fewer steps, restarts or samples",
            )

    @property
    def passes(self) -> int:
        """The most forward and backward passes that the attacks can spend, with the clean pass and verification.

        An attack whose passes are not known (a caller's own, or one of ART's, whose counts are bounded when they are
        read) counts with its verification only; `transfer` with its surrogate's passes.
        """
        return self.n * (1 + sum(1 + _passes(plan, self.classes, self.norm) for plan in self.plans))

    def __str__(self) -> str:
        """The list as it is written on the command line."""
        return ",".join(plan.text for plan in self.plans)


def as_suite(attacks: Suite | Sequence[AttackPlan], norm: Norm, access: Access, n: int, classes: int) -> Suite:
    """`attacks` as a suite for just this: itself where it was made for it, else checked against it."""
    if isinstance(attacks, Suite):
        if (attacks.norm, attacks.access, attacks.n, attacks.classes) == (norm, access, n, classes):
            return attacks
        attacks = attacks.plans
    return Suite(plans=tuple(attacks), norm=norm, access=access, n=n, classes=classes)


def parse_suite(text: str, norm: Norm, access: Access, n: int, classes: int) -> Suite:
    """Read `NAME[:key=value...],...`, e.g. `pgd:steps=40:restarts=2,fgsm`, for a target and so many samples.

    Raises:
        AttackSettingsError: what `parse_attacks` and `Suite` refuse.
        CostLimitError: more than MAX_PASSES.
    """
    return Suite(plans=parse_attacks(text, norm, access), norm=norm, access=access, n=n, classes=classes)


def parse_attacks(text: str, norm: Norm = "linf", access: Access = "gradients") -> tuple[AttackPlan, ...]:
    """The names and settings of a list; a suite's name stands for its list.

    `transfer` and `examples:FILE` are read, too; `borrowed.bind_borrowed` makes them callable.

    Args:
        norm: decides the members of suites.
        access: what the target offers: it decides what `fast` stands for.

    Raises:
        AttackSettingsError: nothing named, an unknown name or key (with the nearest one), a value of the wrong type
            or outside its limits, or one attack twice with the same settings.
    """
    if len(text) > MAX_TEXT:
        raise refusal("the list of attacks is too long", expected=f"at most {MAX_TEXT} characters", got=len(text))
    items = [part for item in text.split(",") for part in _members(item.strip(), norm, access).split(",")]
    plans = tuple(_parse_plan(item.strip()) for item in items)
    texts = [plan.text for plan in plans]
    twice = next((t for i, t in enumerate(texts) if t in texts[:i]), None)
    if twice is not None:
        raise refusal("one attack is listed twice", expected="each once with the same settings", got=twice,
                      hint="a suite of the list may bring it too")  # fmt: skip
    return plans


def _members(name: str, norm: Norm, access: Access) -> str:
    if name.lower() not in SUITES:
        return name
    name = name.lower()
    members = suite_members(name, norm, access)
    if members is None:
        raise refusal(f"the suite {name} is not defined for this norm", expected=" or ".join(SUITES[name]), got=norm)
    return members


def _parse_plan(item: str) -> AttackPlan:
    name, *assignments = item.split(":")
    name = name.lower()
    if name == "art":
        return art_plan(assignments)
    entry = entry_named(name)
    if entry is None:
        raise _unknown(name)
    if entry is saved_examples.ENTRY:
        if not assignments:
            raise refusal("no file of examples named", expected="examples:FILE.npz", got=item)
        return AttackPlan(name, entry, {}, bound={"file": item.partition(":")[2].removeprefix("file=")})
    settings = dict(entry.settings)
    given: set[str] = set()
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if key not in {*entry.settings, MARGIN_LEFT} or not equals or key in given:
            known = sorted([*entry.settings, MARGIN_LEFT])
            message = f"{name} has no such setting" if key not in given else f"{name} has a setting twice"
            raise refusal(message, expected=", ".join(known), got=assignment, hint=nearest(key, known))
        given.add(key)
        settings[key] = _parse_value(entry, key, value)
    margin_left = settings.pop(MARGIN_LEFT, None)
    return AttackPlan(name, entry, settings, None if margin_left is None else float(margin_left))


def _unknown(name: str) -> AttackSettingsError:
    known = names()
    if name in SUITES:
        hint = "name its attacks with theirs, see docs/attacks.md"
        return refusal("a suite takes no settings", expected=", ".join(known), got=name, hint=hint)
    hint = nearest(name, known)
    return refusal("unknown attack", expected=", ".join(known), got=name or "nothing", hint=hint)


def _parse_value(entry: AttackEntry, key: str, text: str) -> Setting:
    """`text` as the type of the setting's default, within its limits."""
    where = f"{entry.name}:{key}"
    if key == MARGIN_LEFT:
        return _parse_number(text, MARGIN_LEFT_LIMITS, where, whole=False)
    default = entry.settings[key]
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise refusal("not a truth value", where=where, expected="true or false", got=text)
        return text.lower() == "true"
    if isinstance(default, str):
        if text not in entry.choices[key]:
            raise refusal("unknown value", where=where, expected=" or ".join(entry.choices[key]), got=text)
        return text
    return _parse_number(text, entry.limits[key], where, whole=isinstance(default, int))


def _parse_number(text: str, limits: Limits, where: str, *, whole: bool) -> int | float:
    low, high = limits
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise refusal("value outside its range", where=where, expected=f"{kind} from {low:g} to {high:g}", got=text)
    return value


def _beyond(plan: AttackPlan, norm: Norm, access: Access) -> AttackSettingsError:
    return refusal(
        f"the attack needs {NEEDS[plan.entry.knowledge]}, and the target offers {access} only",
        where=plan.name,
        expected=f"for {norm} on {access}: {', '.join(runnable(norm, access))}, or the suite fast",
        got=plan.name,
    )


def _passes(plan: AttackPlan, classes: int, norm: Norm) -> int:
    return 0 if plan.entry.passes is None else plan.entry.passes(plan.settings, classes, norm).total
