"""Rules for claims that need no network: numbers printed twice, arithmetic, and what the published programs hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from secure_ai.core.thresholds import ROUNDING
from secure_ai.report.model import Basis, FigureStatus, FigureUnit
from secure_ai.report.render.text import percent, plural
from secure_ai.runs.reproduction.judge import FigureRule, Judgement, Published, missing, value_text
from secure_ai.runs.reproduction.values import Measured, Reading


@dataclass(frozen=True, slots=True)
class Printed:
    """A number as a report prints it, with half a unit of its last digit as rounding error."""

    where: str
    value: float
    unit: FigureUnit
    rounding: float

    def agrees_with(self, other: Printed) -> bool:
        """Can both be the same number, rounded differently?"""
        return abs(self.value - other.value) <= self.rounding + other.rounding + ROUNDING

    def __str__(self) -> str:
        """E.g. `98.90 % (table 1)`."""
        return f"{value_text(self.value, self.unit)} ({self.where})"


def _resting_on(basis: Basis) -> Callable[[FigureRule], FigureRule]:
    """The rule with what its judgements rest on, where that is no measurement of the run."""

    def marked(rule: FigureRule) -> FigureRule:
        def judge(row: Published, run: Measured) -> Judgement:
            return replace(rule(row, run), basis=basis)

        return judge

    return marked


def printed_twice(here: Printed, there: Printed) -> FigureRule:
    """The rule for a number that a report prints twice: both must be the same up to rounding."""

    @_resting_on("printed")
    def rule(row: Published, run: Measured) -> Judgement:
        same = run.reading(row.same) if row.same else None
        if here.agrees_with(there):
            return Judgement(FigureStatus.SUPPORTED, f"Printed twice, the same: {here} and {there}.", same, same)
        return Judgement(
            FigureStatus.WRONG, f"Printed twice, differently: {here} but {there}; not one run.", same, same
        )

    return rule


def one_run(pairs: Mapping[str, tuple[Printed, Printed]]) -> FigureRule:
    """The rule for "deterministic, reproducible": pairs of one quantity in one report must agree."""

    @_resting_on("printed")
    def rule(row: Published, run: Measured) -> Judgement:
        differing = [name for name, (here, there) in pairs.items() if not here.agrees_with(there)]
        if not differing:
            return Judgement(FigureStatus.SUPPORTED, f"All {len(pairs)} numbers that are printed twice agree.")
        reason = f"{len(differing)} of {len(pairs)} numbers that are printed twice differ ({', '.join(differing)})."
        return Judgement(FigureStatus.WRONG, reason)

    return rule


def share_of(count: int, whole_id: str, everything: int) -> FigureRule:
    """The rule for a poisoning rate: `count` of the number under `whole_id`, to the digits that are printed."""

    def rule(row: Published, run: Measured) -> Judgement:
        whole = run.reading(whole_id)
        if whole is None or whole.value < 1 or row.value is None:
            return missing(whole_id)
        share = count / whole.value
        ours = Reading(whole_id, share, share, share)
        fact = (
            f"{count:,} of {whole.value:,.0f} images of the class are {percent(share)}"
            f" ({percent(count / everything)} of all {everything:,})"
        )
        if percent(share) == percent(row.value):
            return Judgement(FigureStatus.SUPPORTED, f"Computed: {fact}.", ours, ours)
        return Judgement(FigureStatus.WRONG, f"Computed: {fact}, not {percent(row.value)}.", ours, ours)

    return rule


def arithmetic(computed: float, working: str, rounding: float) -> FigureRule:
    """The rule for a number that follows from other published numbers.

    Args:
        computed: the result.
        working: how it comes about, e.g. `16 of 784 pixels`.
        rounding: half a unit of the last printed digit.
    """

    @_resting_on("printed")
    def rule(row: Published, run: Measured) -> Judgement:
        if row.value is None:
            return missing()
        ours = Reading("computed", computed, computed, computed)
        text = f"{working} {'is' if row.unit == 'share' else 'are'} {value_text(computed, row.unit)}"
        if abs(row.value - computed) <= rounding + ROUNDING:
            return Judgement(FigureStatus.SUPPORTED, f"Computed: {text}.", ours, ours)
        return Judgement(FigureStatus.WRONG, f"Computed: {text}, not {value_text(row.value, row.unit)}.", ours, ours)

    return rule


def in_program(key: str, default: int, needed: int, what: str) -> FigureRule:
    """The rule for a claim about the published program: it must hold at least `needed` of `what`.

    Args:
        key: id of the count, for a reader of another version of the program.
        default: the count in the public program, read once.
        needed: how many the claim needs.
        what: what is counted, in words, plural.
    """

    @_resting_on("read")
    def rule(row: Published, run: Measured) -> Judgement:
        found = run.reading(key)
        count = int(found.value) if found else default
        ours = run.reading(row.same) if row.same else None
        if count >= needed:
            reason = f"The published program has {count} {what}."
            return Judgement(FigureStatus.SUPPORTED, reason, ours, ours)
        amount = "no" if count == 0 else f"{count} of {needed}"
        reason = f"Nothing supports it: the published program has {amount} {what}."
        return Judgement(FigureStatus.NOT_SUPPORTED, reason, ours, ours)

    return rule


def not_in_program(key: str, default: int, what: str) -> FigureRule:
    """The rule for a claim that `what` was removed: the published program must hold none."""

    @_resting_on("read")
    def rule(row: Published, run: Measured) -> Judgement:
        found = run.reading(key)
        count = int(found.value) if found else default
        if count == 0:
            return Judgement(FigureStatus.SUPPORTED, f"The published program has no {what}.")
        return Judgement(FigureStatus.WRONG, f"The published program still has {plural(count, what)}.")

    return rule


def whole_codebase(key: str, default: int, listed: int, lines: int) -> FigureRule:
    """The rule for "the entire codebase was scanned": the scanned lines must come from every file that is listed."""

    @_resting_on("read")
    def rule(row: Published, run: Measured) -> Judgement:
        found = run.reading(key)
        files = int(found.value) if found else default
        if files >= listed:
            return Judgement(
                FigureStatus.SUPPORTED, f"The {lines} lines are {plural(files, 'file')}, all {listed} listed."
            )
        reason = f"The {lines} lines are {plural(files, 'file')} of the {listed} that are listed, not the codebase."
        return Judgement(FigureStatus.WRONG, reason)

    return rule


def count_of(count_id: str) -> FigureRule:
    """The rule for a published count: ours must be equal."""

    def rule(row: Published, run: Measured) -> Judgement:
        ours = run.reading(count_id)
        if ours is None or row.value is None:
            return missing(count_id)
        if ours.value == row.value:
            return Judgement(FigureStatus.SUPPORTED, f"Reproduced: {ours.value:.0f} here too.", ours, ours)
        return Judgement(FigureStatus.NOT_SUPPORTED, f"Not reproduced: {ours.value:.0f} here.", ours, ours)

    return rule
