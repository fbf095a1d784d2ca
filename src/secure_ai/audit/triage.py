"""Known findings of the code audit, each with the reason why it stands. A triaged finding stays a finding."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Triage:
    """Why a finding of rule `test_id` in files that match `pattern` stands.

    Attributes:
        planted: the code is there to show the weakness; it never counts towards `--fail-on`.
    """

    test_id: str
    pattern: str
    reason: str
    planted: bool = False


def find_triage(rows: Sequence[Triage], test_id: str, name: str) -> Triage | None:
    """The first row that fits."""
    return next((row for row in rows if row.test_id == test_id and fnmatch.fnmatchcase(name, row.pattern)), None)


_FIXED_LIST = "starts this Python with a fixed list of arguments, never a shell"
_NO_LOAD = "nothing is unpickled here: "

OWN_PACKAGE = (
    Triage(
        "B102",
        "models/load/factory.py",
        "running the file that the user named is what --arch asks for, and it is said so",
    ),
    Triage("B105", "core/trust.py", "`pass` is the outcome of a check, not a password"),
    Triage(
        "B301",
        "audit/cache_demo_child.py",
        "report 1's finding, kept to show what it means; see cache_demo",
        planted=True,
    ),
    Triage(
        "B403", "audit/cache_demo*.py", "report 1's finding, kept to show what it means; see cache_demo", planted=True
    ),
    Triage(
        "B403", "data/mnist_pickle.py", "a subclass that admits only numpy's array reconstruction, after the digest"
    ),
    Triage("B403", "files/pickle_ops.py", _NO_LOAD + "pickletools reads opcodes and runs none"),
    Triage("B403", "runs/stages/refusals.py", _NO_LOAD + "pickles are written here that must be refused"),
    Triage("B404", "*.py", _FIXED_LIST),
    Triage("B603", "*.py", _FIXED_LIST),
    Triage("B606", "files/sandbox/probe_child.py", "names no program that exists: the probe of what a child is denied"),
)
"""Every finding that an audit of this package makes, with its reason. Give it as `triage` to `audit_code`."""
