"""Every attack by name, the suites made of them, and how a list of them is read from text.

A new attack is a row of `ATTACKS`, one of `PASSES`, and where a setting takes words a row of `CHOICES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from secure_ai.core.budget import Norm
from secure_ai.core.errors import CostLimitError
from secure_ai.red.evasion.attacks.art import art_plan
from secure_ai.red.evasion.attacks.noise import noise
from secure_ai.red.evasion.attacks.pgd import fgsm, pgd
from secure_ai.red.evasion.attacks.transfer import BORROWED
from secure_ai.red.evasion.contract import MARGIN_LEFT, Attack, AttackEntry, AttackPlan, Setting
from secure_ai.red.evasion.refusal import nearest, refusal
from secure_ai.red.evasion.suite.autoattack import Protocol, autoattack
from secure_ai.red.evasion.suite.costs import COSTS
from secure_ai.red.evasion.suite.fast import FAST
from secure_ai.red.evasion.suite.reference import REFERENCE_ATTACKS

MAX_TEXT = 4096
MARGIN_LEFT_LIMITS = (0.0, 1.0)
MAX_PASSES = 10**10  # forward and backward passes of one run: more than a day at 100,000 a second

ATTACKS: dict[str, AttackEntry] = {
    "fgsm": AttackEntry(
        attack=cast(Attack, fgsm),
        norms=("linf", "l2", "l1", "l0"),
        knowledge="white-box",
        kind="budget",
        source="Goodfellow, Shlens and Szegedy, 1412.6572, section 4",
        settings={"labels": "true"},
    ),
    "noise": AttackEntry(
        attack=cast(Attack, noise),
        norms=("linf", "l2", "l1", "l0"),
        knowledge="none",  # it searches nothing: not the black-box attack that a verdict asks for
        kind="budget",
        source="uniform in the ball, clipped to [0, 1]; the control of Athalye et al., 1802.00420, section 3.1",
        settings={"draws": 1},
        limits={"draws": (1, 100_000)},
    ),
    "pgd": AttackEntry(
        attack=cast(Attack, pgd),
        norms=("linf", "l2", "l1"),
        knowledge="white-box",
        kind="budget",
        source="Madry et al., 1706.06083, section 2.1; momentum: 1710.06081; EOT: 1707.07397",
        settings={
            "steps": 40,
            "step_size_rel": 0.0,
            "restarts": 1,
            "random_start": True,
            "momentum": 0.0,
            "eot_samples": 1,
        },
        limits={
            "steps": (1, 100_000),
            "step_size_rel": (0.0, 2.0),
            "restarts": (1, 1000),
            "momentum": (0.0, 1.0),
            "eot_samples": (1, 1000),
        },
    ),
    **REFERENCE_ATTACKS,
}

PASSES: dict[str, Callable[[Mapping[str, Any]], int]] = {
    "fgsm": lambda settings: 2,
    "noise": lambda settings: settings["draws"],
    "pgd": lambda settings: settings["restarts"] * settings["eot_samples"] * (2 * settings["steps"] + 1),
}
"""Name -> most forward and backward passes that the attack spends on one sample; `costs.COSTS` has the others."""

CHOICES: dict[str, tuple[str, ...]] = {"labels": ("true", "predicted")}
"""Setting -> the words it takes."""

SUITES: dict[str, Mapping[Norm, str]] = {"fast": FAST}
"""Name -> norm -> the list it stands for, in the order run: weaker attacks last, so that one that beats a stronger
shows."""

PROTOCOLS: dict[str, Protocol] = {"autoattack": "standard", "plus": "plus", "rand": "rand"}
"""Name -> AutoAttack's protocol, whose members depend on the norm."""

CLASSES_FOR_BOUND = 1000  # of FAB's cost, which grows with the classes: a bound for networks nobody has seen yet


def parse_attacks(text: str, norm: Norm = "linf") -> tuple[AttackPlan, ...]:
    """Read `NAME[:key=value...],...`, e.g. `pgd:steps=40:restarts=2,fgsm`; a suite's name stands for its list.

    `transfer` and `examples:FILE` are read, too; `transfer.bind_borrowed` makes them callable.

    Args:
        norm: decides the members of AutoAttack's protocols.

    Raises:
        AttackSettingsError: nothing named, an unknown name or key (with the nearest one), a value of the wrong type
            or outside its limits, or one attack twice with the same settings.
    """
    if len(text) > MAX_TEXT:
        raise refusal("the list of attacks is too long", expected=f"at most {MAX_TEXT} characters", got=len(text))
    items = [part for item in text.split(",") for part in _members(item.strip(), norm).split(",")]
    plans = tuple(_parse_plan(item.strip()) for item in items)
    texts = [plan.text for plan in plans]
    twice = next((t for i, t in enumerate(texts) if t in texts[:i]), None)
    if twice is not None:
        raise refusal("one attack is listed twice", expected="each once with the same settings", got=twice,
                      hint="a suite of the list may bring it too")  # fmt: skip
    return plans


def _members(name: str, norm: Norm) -> str:
    if name in PROTOCOLS:
        return autoattack(PROTOCOLS[name], norm)
    return SUITES[name][norm] if name in SUITES else name


def _parse_plan(item: str) -> AttackPlan:
    name, *assignments = item.split(":")
    if name == "art":
        return art_plan(assignments)
    entry = _entry(name)
    if entry is None:
        known = sorted([*ATTACKS, *BORROWED, *SUITES, *PROTOCOLS])
        is_suite = name in {*SUITES, *PROTOCOLS}
        message = "a suite takes no settings" if is_suite else "unknown attack"
        hint = "name its attacks with theirs, see docs/attacks.md" if is_suite else nearest(name, known)
        raise refusal(message, expected=", ".join(known), got=name or "nothing", hint=hint)
    if name == "examples":
        if not assignments:
            raise refusal("no file of examples named", expected="examples:FILE.npz", got=item)
        return AttackPlan(name, entry, {"file": item.partition(":")[2].removeprefix("file=")})
    settings = dict(entry.settings)
    given: set[str] = set()
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if key not in {*entry.settings, MARGIN_LEFT} or not equals or key in given:
            known = sorted([*entry.settings, MARGIN_LEFT])
            message = f"{name} has no such setting" if key not in given else f"{name} has a setting twice"
            raise refusal(message, expected=", ".join(known), got=assignment, hint=nearest(key, known))
        given.add(key)
        settings[key] = _parse_value(entry, name, key, value)
    margin_left = settings.pop(MARGIN_LEFT, None)
    return AttackPlan(name, entry, settings, None if margin_left is None else float(margin_left))


def _entry(name: str) -> AttackEntry | None:
    return ATTACKS.get(name) or BORROWED.get(name)


def _parse_value(entry: AttackEntry, name: str, key: str, text: str) -> Setting:
    """`text` as the type of the setting's default, within its limits."""
    where = f"{name}:{key}"
    if key == MARGIN_LEFT:
        return _parse_number(text, 0.0, *MARGIN_LEFT_LIMITS, where=where)
    default = entry.settings[key]
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise refusal("not a truth value", where=where, expected="true or false", got=text)
        return text.lower() == "true"
    if isinstance(default, str):
        if text not in CHOICES[key]:
            raise refusal("unknown value", where=where, expected=" or ".join(CHOICES[key]), got=text)
        return text
    return _parse_number(text, default, *entry.limits[key], where=where)


def _parse_number(text: str, default: float, low: float, high: float, *, where: str) -> int | float:
    try:
        value = int(text) if isinstance(default, int) else float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise refusal("value outside its range", where=where, expected=f"{kind} from {low:g} to {high:g}", got=text)
    return value


def forecast_passes(plans: Sequence[AttackPlan], n: int, classes: int = CLASSES_FOR_BOUND) -> int:
    """The most forward and backward passes that `plans` can spend on `n` samples, with clean pass and verification.

    A plan whose attack is not of this catalogue (the caller's own, or one of ART's, whose counts are bounded when they
    are read) counts with its verification only; `transfer` with its surrogate's.

    Args:
        classes: of the network, where it is known: FAB's cost grows with them.
    """
    return n * (1 + sum(1 + _passes(plan, classes) for plan in plans))


def _passes(plan: AttackPlan, classes: int) -> int:
    if plan.name == "transfer" and plan.entry.source == BORROWED["transfer"].source:
        return int(plan.settings["restarts"]) * (2 * int(plan.settings["steps"]) + 1)
    if ATTACKS.get(plan.name) is not plan.entry:
        return 0
    if plan.name in PASSES:
        return PASSES[plan.name](plan.settings)
    costs = [COSTS[plan.name](plan.settings, norm, classes) for norm in plan.entry.norms]
    return max(cost.forward + cost.backward for cost in costs)


def check_cost(plans: Sequence[AttackPlan], n: int, classes: int = CLASSES_FOR_BOUND) -> int:
    """`forecast_passes`, or a refusal before any work. Raises CostLimitError above MAX_PASSES."""
    passes = forecast_passes(plans, n, classes)
    if passes > MAX_PASSES:
        raise CostLimitError(
            "these attacks would never end",
            where="--attack",
            expected=f"at most {MAX_PASSES:.0e} passes through the network",
            got=f"{passes:.1e} for {n} samples",
            hint="fewer steps, restarts or samples",
        )
    return passes
