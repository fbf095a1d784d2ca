"""Every attack and every suite by name. A new attack is a file of its own and its entry's name in `ATTACKS`."""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.core.budget import Norm
from secure_ai.models.target.access import Access, offers
from secure_ai.red.evasion.attacks import (
    apgd,
    cw,
    ddn,
    deepfool,
    fab,
    fmn,
    hopskipjump,
    noise,
    odi,
    pgd,
    saved_examples,
    sigma_zero,
    square,
    transfer,
)
from secure_ai.red.evasion.contract import AttackEntry, AttackPlan
from secure_ai.red.evasion.suite.access import NEEDS
from secure_ai.red.evasion.suite.autoattack import AUTOATTACK
from secure_ai.red.evasion.suite.fast import FAST, FAST_ON_LABELS, FAST_ON_SCORES

ATTACKS: tuple[AttackEntry, ...] = (
    pgd.FGSM,
    pgd.PGD,
    noise.ENTRY,
    apgd.APGD_CE,
    apgd.APGD_DLR,
    apgd.APGD_T,
    odi.ENTRY,
    fab.FAB,
    fab.FAB_T,
    square.ENTRY,
    ddn.ENTRY,
    fmn.ENTRY,
    cw.ENTRY,
    deepfool.ENTRY,
    sigma_zero.ENTRY,
    hopskipjump.ENTRY,
)
BORROWED: tuple[AttackEntry, ...] = (transfer.ENTRY, saved_examples.ENTRY)
"""Attacks that `suite/borrowed.py` makes callable: they need a surrogate or a file."""

SUITES: Mapping[str, Mapping[Norm, str]] = {
    "fast": FAST,
    "autoattack": AUTOATTACK["standard"],
    "plus": AUTOATTACK["plus"],
    "rand": AUTOATTACK["rand"],
}
"""Name -> norm -> the list it stands for, in the order run: weaker attacks last, so that one that beats a stronger
shows."""

SUITES_WITHOUT_GRADIENTS: Mapping[Access, Mapping[str, Mapping[Norm, str]]] = {
    "scores": {"fast": FAST_ON_SCORES},
    "labels": {"fast": FAST_ON_LABELS},
}
"""What a suite stands for where the target offers less than gradients; the others stand for the same everywhere."""


def entry_named(name: str) -> AttackEntry | None:
    """The entry of this name, or None."""
    return next((entry for entry in (*ATTACKS, *BORROWED) if entry.name == name), None)


def names() -> list[str]:
    """Every attack and suite, sorted."""
    return sorted([*(entry.name for entry in (*ATTACKS, *BORROWED)), *SUITES])


def suite_members(name: str, norm: Norm, access: Access) -> str | None:
    """The list that a suite stands for; None where the suite is not defined for the norm."""
    return SUITES_WITHOUT_GRADIENTS.get(access, {}).get(name, SUITES[name]).get(norm)


def runnable(norm: Norm, access: Access) -> list[str]:
    """The attacks that a target with this access allows in this norm, sorted."""
    return sorted(e.name for e in ATTACKS if norm in e.norms and offers(access, NEEDS[e.knowledge]))


def is_built_in(plan: AttackPlan) -> bool:
    """Whether the plan's attack is this catalogue's own, and so keeps nothing between calls."""
    return any(plan.entry is entry for entry in ATTACKS)
