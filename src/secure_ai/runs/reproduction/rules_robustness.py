"""Rules on robust accuracy: the lowest of transferred examples, one FGSM step, PGD-40 and a suite is the claim.

Accuracy on examples made for another network, or under one gradient step, says little about the network that is
attacked itself (Athalye, Carlini and Wagner, ICML 2018, section 3.1; Wong, Rice and Kolter, ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from secure_ai.core.thresholds import CLEAR_MARGIN
from secure_ai.report.model import FigureStatus
from secure_ai.report.render.text import points
from secure_ai.runs.reproduction.judge import (
    FigureRule,
    Judgement,
    Published,
    brief,
    clearly_above,
    missing,
    value_text,
    within,
)
from secure_ai.runs.reproduction.rules import EXACT, judge_figure, subtract
from secure_ai.runs.reproduction.values import Measured, Reading

MEASURED = ("transferred", "fgsm", "pgd")
SUITE = "suite"  # on fewer images, and not in every recipe
STRONGER = {SUITE: "a whole suite of attacks", "pgd": "PGD-40"}


def _lowest(rates: Mapping[str, Reading]) -> str:
    """On a tie the strongest attack's: transferred examples never decide."""
    order = (SUITE, "pgd", "fgsm")
    return min(rates, key=lambda name: (rates[name].value, order.index(name) if name in order else len(order)))


def _robust_sentence(claimed: str, rates: Mapping[str, Reading]) -> str:
    """Why the lowest of `rates` is clearly below the claimed one."""
    lowest = _lowest(rates)
    low, high = rates[lowest], rates[claimed]
    gap = f"{brief(low)}, {points(high.value - low.value)} lower"
    if claimed == "transferred" and clearly_above(high, rates["fgsm"], CLEAR_MARGIN):
        also = f" ({STRONGER[lowest]}: {brief(low)})" if lowest in STRONGER else ""
        own = rates["fgsm"]
        return (
            "Scored on examples made for another network: attacked itself by the same FGSM, the network keeps "
            f"{brief(own)}, {points(high.value - own.value)} lower{also}."
        )
    if lowest == SUITE:
        return f"A whole suite of attacks with the same size of perturbation leaves {gap}."
    if lowest == "pgd":
        return f"One step only: 40 steps of the same size of perturbation (PGD-40) leave {gap}."
    if lowest == "transferred":
        return f"Its own gradient misleads the attack: examples made for another network leave {gap}."
    return f"Another measurement of the same attack, on all images of the network itself, leaves {gap}."


def judge_robustness(claimed: str, rates: Mapping[str, Reading]) -> tuple[Reading, str]:
    """The lowest of a defended network's robust accuracies, and why it differs from the claimed one.

    Args:
        claimed: the key of `rates` that was published as robustness: `transferred`, `fgsm` or another FGSM.
        rates: robust accuracies by `transferred`, `fgsm`, `pgd` and `claimed`; `suite` may be among them.

    Returns:
        (the lowest reading, one sentence; empty where the claimed rate is not clearly above the lowest).
    """
    lowest = rates[_lowest(rates)]
    return lowest, _robust_sentence(claimed, rates) if clearly_above(rates[claimed], lowest, CLEAR_MARGIN) else ""


def robust(network: str, claimed: str) -> FigureRule:
    """The rule for "accuracy under attack" of a defended network: the lowest of its measurements is the claim.

    Args:
        network: prefix of the ids, e.g. `REPORT/defended`.
        claimed: the condition that the report scored, e.g. `transferred`.
    """
    names = tuple(dict.fromkeys((*MEASURED, claimed)))

    def rule(row: Published, run: Measured) -> Judgement:
        found = run.readings([f"{network}/{name}" for name in names])
        same = run.reading(f"{network}/{claimed}")
        if found is None or same is None or row.value is None:
            return missing(*run.absent(*(f"{network}/{name}" for name in names)))
        rates, suite = dict(zip(names, found, strict=True)), run.reading(f"{network}/{SUITE}")
        lowest, reason = judge_robustness(claimed, rates | ({SUITE: suite} if suite else {}))
        if reason:
            return Judgement(FigureStatus.WRONG, reason, same, lowest)
        return _reproduced_robustness(row, same, lowest)

    return rule


def _reproduced_robustness(row: Published, same: Reading, lowest: Reading) -> Judgement:
    if row.value is not None and not within(row.value, same, row.tolerance or EXACT):
        reason = (
            f"All its robust accuracies agree on {brief(lowest)}, but {value_text(row.value, row.unit)} is not "
            "reproduced."
        )
        return Judgement(FigureStatus.NOT_SUPPORTED, reason, same, lowest)
    reason = (
        f"All its robust accuracies agree: the lowest, {brief(lowest)}, lies within {points(CLEAR_MARGIN)} of the "
        "figure's own protocol."
    )
    return Judgement(FigureStatus.SUPPORTED, reason, same, lowest)


def gain(network: str, baseline: str, before: str, claimed: str) -> FigureRule:
    """The rule for "the defence improves accuracy under attack by so many points".

    Measured correctly it is the way from the lowest robust accuracy of the one network to that of the other, by
    single attacks on all images; the suite, on fewer, is left out.

    Args:
        network: prefix of the defended network.
        baseline: prefix of the undefended one.
        before: the condition that the report scored on the undefended network.
        claimed: the condition that the report scored on the defended network.
    """
    names = tuple(f"{network}/{name}" for name in MEASURED)
    undefended = (f"{baseline}/fgsm", f"{baseline}/pgd")

    def rule(row: Published, run: Measured) -> Judgement:
        same = subtract(run, f"{network}/{claimed}", (f"{baseline}/{before}",))
        rates, first = run.readings(names), run.readings(undefended)
        if same is None or rates is None or first is None:
            needed = (f"{network}/{claimed}", f"{baseline}/{before}", *undefended, *names)
            return missing(*dict.fromkeys(run.absent(*needed)))
        lowest = min(rates, key=lambda item: item.value)
        right = subtract(run, lowest.id, undefended)
        if right is None:
            return missing(*undefended)
        judged = judge_figure(row, same, right)
        if judged.status is not FigureStatus.WRONG or row.value is None:
            return judged
        reason = (
            f"The same protocol gives {brief(same, row.unit)}, but from the lowest of FGSM and PGD-40 on the one "
            f"network to the lowest on the other it is {brief(right, row.unit)}, too far from "
            f"{value_text(row.value, row.unit)}."
        )
        return replace(judged, reason=reason)

    return rule
