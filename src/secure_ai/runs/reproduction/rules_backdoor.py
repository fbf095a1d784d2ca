"""Rules on backdoors: success counts triggered images whose true label is not the target, beside a clean network.

Accuracy on triggered images of the target class itself is no success: they belong there without any trigger.
"""

from __future__ import annotations

from secure_ai.core.thresholds import CLEAR_MARGIN, HIGH_CONFIDENCE, MAJORITY
from secure_ai.report.model import FigureStatus
from secure_ai.runs.reproduction.judge import (
    FigureRule,
    Judgement,
    Published,
    brief,
    clearly_above,
    missing,
    reading_text,
    value_text,
    within,
)
from secure_ai.runs.reproduction.rules import EXACT
from secure_ai.runs.reproduction.values import Measured


def backdoor(poisoned: str, clean: str) -> FigureRule:
    """The rule for "the trigger makes inputs the target class": count only images whose true label is another.

    Args:
        poisoned: id of the backdoor success rate of the poisoned network.
        clean: id of the same rate of a network trained on clean data.
    """

    def rule(row: Published, run: Measured) -> Judgement:
        found = run.readings((poisoned, clean))
        if found is None:
            return missing(*run.absent(poisoned, clean))
        rate, control = found
        same = run.reading(row.same) if row.same else rate
        success = f"the trigger sends {brief(rate)} to the target"
        without = f"the clean network {brief(control)}"
        if not clearly_above(rate, control, CLEAR_MARGIN):
            reason = f"No working backdoor: of the images whose true label is another, {success} and {without}."
            return Judgement(FigureStatus.WRONG, reason, same, rate)
        if row.value is not None and not within(row.value, rate, row.tolerance or EXACT):
            reason = (
                f"A backdoor, weaker than published: of the images whose true label is another, {success} "
                f"({without}), not {value_text(row.value, row.unit)}."
            )
            return Judgement(FigureStatus.WRONG, reason, same, rate)
        reason = f"A working backdoor: of the images whose true label is another, {success} and {without}."
        return Judgement(FigureStatus.SUPPORTED, reason, same, rate)

    return rule


def confident_backdoor(poisoned: str, clean: str, confidence: str) -> FigureRule:
    """The rule for "triggered images go to the target with high confidence": most of them, at a mean of 0.9 or more.

    Args:
        poisoned: id of the backdoor success rate of the poisoned network.
        clean: id of the same rate of a network trained on clean data.
        confidence: id of the mean probability of the target class on those images.
    """

    def rule(row: Published, run: Measured) -> Judgement:
        found, sure = run.readings((poisoned, clean)), run.reading(confidence)
        if found is None:
            return missing(*run.absent(poisoned, clean))
        rate, control = found
        fact = f"{reading_text(rate, 'share')} of the triggered images go to the target (clean: {brief(control)}), " + (
            f"at a mean probability of {sure.value:.2f}" if sure else "at a confidence that was not measured"
        )
        if not clearly_above(rate, control, CLEAR_MARGIN) or rate.high < MAJORITY:
            return Judgement(FigureStatus.WRONG, f"Contradicted: {fact}.", rate, rate)
        if sure is None:
            return Judgement(FigureStatus.NOT_MEASURED, f"Half measured: {fact}.", rate, rate)
        if rate.low < MAJORITY or sure.value < HIGH_CONFIDENCE:
            return Judgement(FigureStatus.NOT_SUPPORTED, f"Supported in part: {fact}.", rate, rate)
        return Judgement(FigureStatus.SUPPORTED, f"Measured: {fact}.", rate, rate)

    return rule
