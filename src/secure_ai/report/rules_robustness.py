"""Rules on robust accuracy: the lowest of transferred examples, one white-box FGSM step and PGD-40 is the claim.

Accuracy on examples made for another network, or under one gradient step, says little about the network that is
attacked itself (Athalye, Carlini and Wagner, ICML 2018, section 3.1; Wong, Rice and Kolter, ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_ai.report.judge import (
    Judgement,
    Published,
    Rule,
    Status,
    absent,
    brief,
    clearly_above,
    missing,
    value_text,
    within,
)
from secure_ai.report.rules import EXACT, judge_figure, subtract
from secure_ai.report.text import points
from secure_ai.report.values import Reading, reading, readings

CLEAR_MARGIN = 0.02  # two robust accuracies closer than 2 points tell the same story
MEASURED = ("transferred", "fgsm", "pgd")


def _lowest(rates: Mapping[str, Reading]) -> str:
    """On a tie the strongest attack's: transferred examples never decide."""
    order = {"pgd": 0, "fgsm": 1}
    return min(rates, key=lambda name: (rates[name].value, order.get(name, 2)))


def _robust_sentence(claimed: str, rates: Mapping[str, Reading]) -> str:
    """Why the lowest of `rates` is clearly below the claimed one."""
    lowest = _lowest(rates)
    low, high = rates[lowest], rates[claimed]
    gap = f"{brief(low)}, {points(high.value - low.value)} lower"
    if claimed == "transferred" and clearly_above(high, rates["fgsm"], CLEAR_MARGIN):
        also = f" (PGD-40: {brief(low)})" if lowest == "pgd" else ""
        own = rates["fgsm"]
        return (
            "Scored on examples made for another network: attacked itself by the same FGSM, the network keeps "
            f"{brief(own)}, {points(high.value - own.value)} lower{also}."
        )
    if lowest == "pgd":
        return f"One step only: 40 steps of the same size of perturbation (PGD-40) leave {gap}."
    if lowest == "transferred":
        return f"Its own gradient misleads the attack: examples made for another network leave {gap}."
    return f"Another measurement of the same attack, on all images of the network itself, leaves {gap}."


def judge_robustness(claimed: str, rates: Mapping[str, Reading]) -> tuple[Reading, str]:
    """The lowest of a defended network's robust accuracies, and why it differs from the claimed one.

    Args:
        claimed: the key of `rates` that was published as robustness: `transferred`, `fgsm` or another FGSM.
        rates: robust accuracies by `transferred`, `fgsm`, `pgd` and `claimed`.

    Returns:
        (the lowest reading, one sentence; empty where the claimed rate is not clearly above the lowest).
    """
    lowest = rates[_lowest(rates)]
    return lowest, _robust_sentence(claimed, rates) if clearly_above(rates[claimed], lowest, CLEAR_MARGIN) else ""


def robust(network: str, claimed: str) -> Rule:
    """The rule for "accuracy under attack" of a defended network: the lowest of three measurements is the claim.

    Args:
        network: prefix of the ids, e.g. `report-1/defended-p`.
        claimed: the condition that the report scored, e.g. `transferred`.
    """
    names = tuple(dict.fromkeys((*MEASURED, claimed)))

    def rule(row: Published, values: Mapping[str, Any]) -> Judgement:
        found = readings(values, [f"{network}/{name}" for name in names])
        same = reading(values, f"{network}/{claimed}")
        if found is None or same is None or row.value is None:
            return missing(*absent(values, *(f"{network}/{name}" for name in names)))
        lowest, reason = judge_robustness(claimed, dict(zip(names, found, strict=True)))
        if reason:
            return Judgement(Status.WRONG, reason, same, lowest)
        return _reproduced_robustness(row, same, lowest)

    return rule


def _reproduced_robustness(row: Published, same: Reading, lowest: Reading) -> Judgement:
    if row.value is not None and not within(row.value, same, row.tolerance or EXACT):
        reason = (
            f"Transferred examples, its own FGSM and PGD-40 agree on {brief(lowest)}, but "
            f"{value_text(row.value, row.unit)} is not reproduced."
        )
        return Judgement(Status.NOT_SUPPORTED, reason, same, lowest)
    reason = (
        f"Transferred examples, its own FGSM and PGD-40 agree: the lowest, {brief(lowest)}, lies within "
        f"{points(CLEAR_MARGIN)} of the figure's own protocol."
    )
    return Judgement(Status.SUPPORTED, reason, same, lowest)


def gain(network: str, before: tuple[str, str], claimed: str) -> Rule:
    """The rule for "the defence improves accuracy under attack by so many points".

    Args:
        network: prefix of the defended network.
        before: ids of the undefended accuracy, by the report's protocol and measured correctly.
        claimed: the condition that the report scored on the defended network.
    """
    names = tuple(f"{network}/{name}" for name in MEASURED)

    def rule(row: Published, values: Mapping[str, Any]) -> Judgement:
        same = subtract(values, f"{network}/{claimed}", (before[0],))
        rates = readings(values, names)
        if same is None or rates is None or reading(values, before[1]) is None:
            return missing(*dict.fromkeys(absent(values, f"{network}/{claimed}", *before, *names)))
        lowest = min(rates, key=lambda item: item.value)
        right = subtract(values, lowest.id, (before[1],))
        return judge_figure(row, same, right) if right else missing(before[1])

    return rule
