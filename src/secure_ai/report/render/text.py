"""One spelling of numbers and trust for every format: terminal, HTML, Markdown, SARIF.

A number whose trust verdict is not `reliable`, or whose n is too small for a claim, is never spelled without that word:
renderers write cells with `written` and measurements with `measurement`, which put both into one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import printable
from secure_ai.core.results import Choice, Measurement, Quantity, Rate
from secure_ai.core.sections import Cell, Column, Ref, Section
from secure_ai.core.trust import MIN_N_FOR_A_CLAIM, SAMPLE_SIZE, CheckOutcome, Trust, Verdict
from secure_ai.report.model import Report, Run, TrustWord

MAX_CELL_CHARACTERS = 1000
WORDS = ("broken", "doubtful", "indicative", "")  # from worst to none
ENOUGH = "n sufficient"  # of a number of which nothing but its size was checked
TRUST_BADGES = ("reliable", "doubtful", "broken", "indicative", ENOUGH, "no checks")
Words = Mapping[tuple[str, str], str]  # kind and id of an entry -> its trust word


def cell(value: object) -> str:
    """`value` as one printable line: control and direction-changing characters appear escaped, never raw."""
    return printable(value, MAX_CELL_CHARACTERS)


def percent(value: float, digits: int = 2) -> str:
    """A share as text, e.g. `0.059` as `5.90 %`."""
    return f"{100 * value:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, without sign: `0.933` as `93.3 points`."""
    return f"{abs(100 * difference):.1f} points"


def work_text(run: Run) -> str:
    """How long the work took, how much of it was taken from an earlier run, and what was not."""
    done = seconds_text(run.seconds)
    if run.reused:
        work = f"{seconds_text(sum(run.stage_seconds.values()))} of work"
        done = f"{work}, {len(run.reused)} of {len(run.stage_seconds)} stages from an earlier run"
    kept_out = not_reused(run)
    return f"{done}; not reused: {kept_out}" if kept_out else done


def not_reused(run: Run) -> str:
    """What of an earlier run was not believed, and why; empty where nothing was refused."""
    foreign = f"{plural(len(run.foreign), 'record')} not written with this user's key" if run.foreign else ""
    return "; ".join(text for text in (foreign, cell(run.key_note)) if text)


def seconds_text(seconds: float) -> str:
    """A duration in the unit that reads best: `30.2 µs`, `5.94 ms`, `20.1 s`, `12 min 55 s`."""
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} µs"
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def budget_text(budget: PerturbationBudget | None) -> str:
    """E.g. `linf 8/255`, or nothing where no attack was made."""
    return cell(budget) if budget else ""


def plural(count: int, noun: str) -> str:
    """`1 finding`, `2 findings`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def trust_word(verdict: str | None, n: int) -> TrustWord:
    """The word that must stand beside a number: `broken`, `doubtful`, `indicative` (n too small), or nothing.

    Args:
        verdict: of trust; None where no check was made.
        n: samples behind the number; 0 where there is no number, or it stands on no sample.
    """
    if verdict == Verdict.BROKEN:
        return "broken"
    if verdict == Verdict.DOUBTFUL:
        return "doubtful"
    return "indicative" if 0 < n < MIN_N_FOR_A_CLAIM else ""


class Trusted(Protocol):
    """An entry of the report that has an id and may have a verdict."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def trust(self) -> Trust | None: ...  # noqa: D102


def word_of(entry: Trusted, n: int) -> TrustWord:
    """`trust_word` of an entry that stands on `n` samples."""
    return trust_word(entry.trust.verdict if entry.trust else None, n)


def trust_badge(entry: Trusted, n: int) -> Choice:
    """Its word; else `reliable` where checks passed, `n sufficient` where only the size was one, or `no checks`."""
    return Choice(word_of(entry, n) or _passed(entry.trust), TRUST_BADGES)


def _passed(trust: Trust | None) -> str:
    if trust is None:
        return "no checks"
    asked = {made.id for made in trust.checks if made.outcome is not CheckOutcome.NOT_RUN}
    return ENOUGH if asked == {SAMPLE_SIZE} else "reliable"


def trust_words(report: Report) -> Words:
    """The word of every entry that has one."""
    found = {("measurement", d.id): word_of(d, d.n) for d in report.distances}
    found |= {("measurement", choice.id): word_of(choice, 0) for choice in report.choices}
    found |= {("measurement", q.id): word_of(q, q.n) for q in report.quantities}
    found |= {("measurement", m.id): word_of(m, m.value.n) for m in report.measurements}
    return found | {("threat", threat.id): "indicative" for threat in report.threats if threat.indicative}


@dataclass(frozen=True, slots=True)
class Written:
    """A cell as printable text: what it says, in smaller print its interval and n, and its trust word."""

    main: str
    small: str = ""
    word: str = ""

    @property
    def short(self) -> str:
        """Without the small print, never without the word, e.g. `33.00 % (doubtful)`."""
        return self.main + (f" ({self.word})" if self.word else "")

    def __str__(self) -> str:
        """E.g. `5.90 % [5.45, 6.38], n = 10,000 (doubtful)`."""
        return f"{self.main} {self.small}".strip() + (f" ({self.word})" if self.word else "")


def written(content: Cell, word: str = "") -> Written:
    """A cell; `word` is the trust word of the entry that its row is about."""
    match content:
        case None:
            return Written("-")
        case Rate():
            return Written(*_rate(content), word or trust_word(None, content.n))
        case Quantity():
            return Written(*_quantity(content), word or trust_word(None, content.n))
        case Choice():
            own = content.allowed == TRUST_BADGES  # the word itself
            return Written(cell(content.value.replace("_", " ")), word="" if own else word)
        case Ref():
            return Written(cell(content.id))
        case _:
            return Written(cell(content))


def _rate(rate: Rate) -> tuple[str, str]:
    if rate.value is None:
        return f"none ({cell(rate.reason or 'no reason given')})", ""
    if rate.ci_low is None or rate.ci_high is None:
        return percent(rate.value), ""
    return percent(rate.value), f"[{100 * rate.ci_low:.2f}, {100 * rate.ci_high:.2f}], n = {rate.n:,}{rate.worth}"


def _quantity(quantity: Quantity) -> tuple[str, str]:
    unit = f" {cell(quantity.unit)}" if quantity.unit else ""
    main = f"none ({cell(quantity.reason)})" if quantity.value is None else f"{quantity.value:.4g}{unit}"
    low, high = ("infinite" if end is None else f"{end:.4g}" for end in (quantity.low, quantity.high))
    interval = "" if quantity.low is None and quantity.high is None else f"[{low}, {high}]"
    return main, ", ".join(part for part in (interval, f"n = {quantity.n:,}" if quantity.n else "") if part)


def measurement(entry: Measurement) -> Written:
    """The rate of a measurement with its word."""
    return written(entry.value, word_of(entry, entry.value.n))


def row_word(row: tuple[Cell, ...], words: Words) -> str:
    """The worst word of the entries that a row refers to."""
    found = {words.get((item.kind, item.id), "") for item in row if isinstance(item, Ref)}
    return next((word for word in WORDS if word in found), "")


def column_title(column: Column) -> str:
    """With its unit."""
    return cell(column.title) + (f" ({cell(column.unit)})" if column.unit else "")


def text_rows(section: Section, words: Words) -> list[list[str]]:
    """Every row as printable lines, for formats without links."""
    return [[str(written(item, row_word(row, words))) for item in row] for row in section.rows]
