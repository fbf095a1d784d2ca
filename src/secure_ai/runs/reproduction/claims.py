"""Rules for what the reports say in words about measurements: supported, not supported or wrong."""

from __future__ import annotations

from secure_ai.core.statistics import uniform_errors_p
from secure_ai.core.thresholds import RANDOM_P
from secure_ai.report.model import FigureStatus
from secure_ai.report.render.confusion import equal_recall_p, error_pattern
from secure_ai.report.render.text import percent, plural
from secure_ai.runs.reproduction.judge import (
    FigureRule,
    Judgement,
    Published,
    Tolerance,
    brief,
    missing,
    within,
)
from secure_ai.runs.reproduction.values import Measured, Reading

SMALLEST_LOSS = 1e-12


def _p_text(p: float) -> str:
    return "p < 1e-10" if p < 1e-10 else f"p = {p:.2g}"


def random_errors(confusion_id: str) -> FigureRule:
    """The rule for "errors fall at random": a chi-square test within each true class, and the top class's share."""

    def rule(row: Published, run: Measured) -> Judgement:
        confusion = run.confusion(confusion_id)
        counts = confusion.counts if confusion else None
        p = uniform_errors_p(counts) if counts else None
        pattern = error_pattern(counts) if counts else None
        if p is None or pattern is None or counts is None:
            return missing(confusion_id)
        share = Reading(confusion_id, pattern.top_per_class, pattern.top_per_class, pattern.top_per_class)
        chance = percent(1 / (len(counts) - 1), 0)
        first, second = pattern.top_two
        where = (
            f"{percent(pattern.top_per_class, 0)} of {plural(pattern.errors, 'error')} go to one wrong class per true "
            f"class (evenly spread: {chance}), {percent(pattern.top_two_share, 0)} to {first} or {second}"
        )
        if p < RANDOM_P:
            return Judgement(FigureStatus.WRONG, f"Not random: {where}; {_p_text(p)}.", None, share)
        return Judgement(
            FigureStatus.SUPPORTED, f"Not distinguishable from random: {where}; {_p_text(p)}.", None, share
        )

    return rule


def even_classes(confusion_id: str) -> FigureRule:
    """The rule for "uniformly well across all classes": a chi-square test that all recalls are equal."""

    def rule(_: Published, run: Measured) -> Judgement:
        confusion = run.confusion(confusion_id)
        counts = confusion.counts if confusion else None
        p = equal_recall_p(counts) if counts else None
        if counts is None or p is None:
            return missing(confusion_id)
        recalls = {label: row[label] / sum(row) for label, row in enumerate(counts) if sum(row)}
        worst, best = min(recalls, key=lambda k: recalls[k]), max(recalls, key=lambda k: recalls[k])
        fact = f"recall runs from {percent(recalls[worst])} (class {worst}) to {percent(recalls[best])} (class {best})"
        if p < RANDOM_P:
            return Judgement(FigureStatus.WRONG, f"The classes differ: {fact}; {_p_text(p)}.")
        return Judgement(FigureStatus.SUPPORTED, f"No difference shown: {fact}; {_p_text(p)}, asked: below {RANDOM_P}.")

    return rule


def fresh_examples(published: float, tolerance: Tolerance, fixed: str, fresh: str) -> FigureRule:
    """The rule for "fresh adversarial examples at each epoch": which version reproduces the published figure?

    Args:
        published: the accuracy that the report prints for the defended network.
        fixed: id of the same figure with examples made once, on the baseline.
        fresh: id of the same figure with fresh examples, made on the network in training.
    """

    def rule(row: Published, run: Measured) -> Judgement:
        found = run.readings((fixed, fresh))
        if found is None:
            return missing(*run.absent(fixed, fresh))
        once, anew = found
        fits_once, fits_anew = within(published, once, tolerance), within(published, anew, tolerance)
        numbers = (
            f"examples made once for the baseline give {brief(once)}, fresh ones {brief(anew)}; "
            f"published is {percent(published)}"
        )
        if fits_anew and not fits_once:
            return Judgement(FigureStatus.SUPPORTED, f"The figure is that of fresh examples: {numbers}.", anew, anew)
        if fits_once and not fits_anew:
            return Judgement(FigureStatus.WRONG, f"The figure is not that of fresh examples: {numbers}.", anew, once)
        which = "either" if fits_once else "neither"
        return Judgement(FigureStatus.NOT_SUPPORTED, f"The figure fits {which} version: {numbers}.", anew, once)

    return rule


def ratio_above(numerator: str, denominator: str, least: float) -> FigureRule:
    """The rule for "increased by more than a factor": the ratio of two losses."""

    def rule(row: Published, run: Measured) -> Judgement:
        found = run.readings((numerator, denominator))
        if found is None or found[1].value < SMALLEST_LOSS:
            return missing(*(run.absent(numerator, denominator) or (denominator,)))
        ratio = found[0].value / found[1].value
        ours = Reading(f"{numerator} / {denominator}", ratio, ratio, ratio)
        if ratio > least:
            reason = f"The loss grows {ratio:.0f}-fold, more than {least:.0f}-fold."
            return Judgement(FigureStatus.SUPPORTED, reason, ours, ours)
        reason = f"The loss grows {ratio:.0f}-fold, not more than {least:.0f}-fold."
        return Judgement(FigureStatus.WRONG, reason, ours, ours)

    return rule
