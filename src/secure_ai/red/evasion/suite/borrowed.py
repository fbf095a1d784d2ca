"""`transfer` and `examples` made callable: one gets its surrogate, the other what a file holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from secure_ai.core.errors import AttackSettingsError
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks import saved_examples, transfer
from secure_ai.red.evasion.contract import Attack, AttackPlan

DIGEST_CHARACTERS = 12

Examples = tuple[Mapping[bytes, Tensor], str]  # what `saved_examples` looks up, and which network they were made for
ReadExamples = Callable[[str], Examples]


def refuse_unbound(plans: Sequence[AttackPlan], *, surrogate: bool, examples: bool) -> None:
    """Raises AttackSettingsError for a plan that `bind_borrowed` could not make callable.

    Args:
        surrogate: whether there is one.
        examples: whether saved ones can be read.
    """
    for plan in plans:
        if plan.entry is transfer.ENTRY and not surrogate:
            raise _no_surrogate()
        if plan.entry is saved_examples.ENTRY and not examples:
            raise _no_examples(plan)


def names_transfer(plans: Sequence[AttackPlan]) -> bool:
    """Whether one of `plans` needs a surrogate."""
    return any(plan.entry is transfer.ENTRY for plan in plans)


def example_files(plans: Sequence[AttackPlan]) -> list[str]:
    """The files that `plans` name."""
    return [plan.bound["file"] for plan in plans if plan.entry is saved_examples.ENTRY]


def bind_borrowed(
    plans: Sequence[AttackPlan], *, network: NetworkTarget | None, read: ReadExamples | None = None
) -> tuple[AttackPlan, ...]:
    """Every plan callable: `transfer` gets its surrogate, `examples` what `read` finds in its file.

    Args:
        network: the surrogate, another network than the target.
        read: file name to its examples.

    Raises:
        AttackSettingsError: `transfer` without a surrogate or with one that offers no gradients, or `examples` where
            none can be read.
    """
    return tuple(_bound(plan, network, read) for plan in plans)


def _bound(plan: AttackPlan, network: NetworkTarget | None, read: ReadExamples | None) -> AttackPlan:
    if plan.entry is transfer.ENTRY:
        if network is None:
            raise _no_surrogate()
        if network.access != "gradients":
            raise AttackSettingsError(
                "transfer follows the surrogate's gradients",
                where=network.name,
                expected="gradients",
                got=network.access,
            )
        bound = {"surrogate": network.digest[:DIGEST_CHARACTERS]}
        return _callable(plan, partial(transfer.transfer, network=network), bound)
    if plan.entry is saved_examples.ENTRY:
        if read is None:
            raise _no_examples(plan)
        lookup, made_for = read(plan.bound["file"])
        bound = {"made_for": made_for[:DIGEST_CHARACTERS]}
        return _callable(plan, partial(saved_examples.saved_examples, lookup=lookup), bound)
    return plan


def _callable(plan: AttackPlan, attack: Attack, bound: Mapping[str, str]) -> AttackPlan:
    return replace(plan, entry=replace(plan.entry, attack=attack), bound={**plan.bound, **bound})


def _no_surrogate() -> AttackSettingsError:
    return AttackSettingsError(
        "transfer makes its examples on another network",
        where="--attack transfer",
        expected="a surrogate",
        got="none",
        hint="--surrogate FILE [--surrogate-arch A]",
    )


def _no_examples(plan: AttackPlan) -> AttackSettingsError:
    return AttackSettingsError("saved examples cannot be scored here", where="--attack", got=plan.text)
