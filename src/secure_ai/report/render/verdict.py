"""The first line of every output: one sentence that the measurements allow, never more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_OK
from secure_ai.core.findings import FailOn, Finding, gate
from secure_ai.core.results import Measurement, at_the_budget
from secure_ai.core.thresholds import ROBUST_BAR
from secure_ai.core.trust import Verdict as TrustVerdict
from secure_ai.core.trust import fed_wrongly
from secure_ai.report.model import Figure, Report
from secure_ai.report.render.text import budget_text, cell, measurement, plural

Tone = Literal["good", "bad", "unclear"]

SUBJECT = "subject"
CODE_FINDING = "BANDIT-"
NAMED = 2  # contradicted headlines that the line names


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """A word, a sentence, and how to colour them."""

    word: str
    sentence: str
    tone: Tone

    def __str__(self) -> str:
        """The line."""
        return f"{self.word}: {self.sentence}"


def verdict_line(report: Report) -> str:
    """The verdict as one line of printable text."""
    return str(verdict(report))


def verdict(report: Report) -> VerdictLine:
    """Judge the subject where there is one, else the reports' headline claims, else say what was measured.

    A run that did not complete, or a number that is not trusted, never yields a good verdict.
    """
    if any(model.role == SUBJECT for model in report.models):
        line = _subject(report)
    elif any(row.holds in ("yes", "no") for row in report.reproduction):
        line = _reproduction(report)
    else:
        line = _measured_only(report)
    sentence = f"{line.sentence} {_findings(report)}"
    if not report.run.complete:
        tone: Tone = "bad" if line.tone == "bad" else "unclear"
        return VerdictLine("INCOMPLETE RUN", f"{line.word.lower()}: {sentence}", tone)
    return VerdictLine(line.word, sentence, line.tone)


def lowest_robust(measurements: Sequence[Measurement]) -> Measurement | None:
    """The measurement with the lowest robust accuracy, or None without any."""
    robust = [(m.value.value, m) for m in measurements if m.metric == "robust_accuracy" and m.value.value is not None]
    return min(robust, key=lambda pair: pair[0])[1] if robust else None


def of_subject(report: Report) -> list[Measurement]:
    """The measurements of the user's own network at the budget asked for."""
    subjects = {model.id for model in report.models if model.role == SUBJECT}
    return [m for m in at_the_budget(report.measurements) if m.model in subjects]


def gate_report(report: Report, fail_on: FailOn) -> int:
    """The exit code of `--fail-on` for a run; one that was not completed passes no gate either."""
    if any(fed_wrongly(model.preflight) for model in report.models if model.role == SUBJECT):
        return EXIT_INCONCLUSIVE  # also where no robust accuracy was measured
    trusts = [m.trust for m in of_subject(report) if m.metric == "robust_accuracy" and m.trust]
    code = gate(report.findings, fail_on, trusts)
    unfinished = fail_on != "never" and not report.run.complete
    return EXIT_INCONCLUSIVE if code == EXIT_OK and unfinished else code


def _subject(report: Report) -> VerdictLine:
    lowest = lowest_robust(of_subject(report))
    if lowest is None or lowest.value.ci_low is None or lowest.value.ci_high is None:
        return VerdictLine("NOT TESTED", "no robust accuracy of the subject was measured.", "unclear")
    text = measurement(lowest)
    sentence = f"the subject keeps {text} under {budget_text(lowest.budget) or 'attack'}."
    if lowest.value.ci_high < ROBUST_BAR:
        return VerdictLine("NOT ROBUST", sentence, "bad")
    if lowest.trust is None or lowest.trust.verdict is not TrustVerdict.RELIABLE or text.word:
        return VerdictLine("NOT SHOWN", sentence, "unclear")
    if lowest.value.ci_low < ROBUST_BAR:
        return VerdictLine("UNDECIDED", sentence, "unclear")
    return VerdictLine("ROBUST AT THIS BUDGET", sentence, "good")


def _reproduction(report: Report) -> VerdictLine:
    rows = [row for row in report.reproduction if row.basis == "measured"]
    headlines = [row for row in rows if row.headline and row.holds in ("yes", "no")] or rows
    wrong = [row for row in headlines if row.holds == "no"]
    all_wrong, all_judged = _count(rows, "no"), _count(rows, "yes") + _count(rows, "no")
    share = f"Of all {all_judged} published figures and claims that were measured {all_wrong} do not"
    share += _not_measured([row for row in report.reproduction if row.basis != "measured"])
    if not wrong:
        tone: Tone = "unclear" if all_wrong else "good"
        return VerdictLine("HEADLINES HOLD", f"all {len(headlines)} headline claims hold. {share}.", tone)
    named = "; ".join(_contradiction(row) for row in wrong[:NAMED])
    more = f"; {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    sentence = f"{len(wrong)} of {len(headlines)} headline claims do not hold: {named}{more}. {share}."
    return VerdictLine("DOES NOT HOLD", sentence, "bad")


def _not_measured(rows: Sequence[Figure]) -> str:
    """What rests on the published texts alone is counted apart."""
    judged = _count(rows, "yes") + _count(rows, "no")
    if not judged:
        return ""
    return f"; of {judged} more, read in the published program or computed from printed numbers, {_count(rows, 'no')}"


def _count(rows: Sequence[Figure], holds: str) -> int:
    return sum(row.holds == holds for row in rows)


def _contradiction(row: Figure) -> str:
    correct = row.correct
    if correct is None:
        return f"“{cell(row.published.text)}”"
    word = f" ({correct.word})" if correct.word else ""
    condition = f" {cell(correct.condition)}" if correct.condition else ""
    return f"“{cell(row.published.text)}” is {cell(correct.value_text or correct.text)}{condition}{word}"


def _measured_only(report: Report) -> VerdictLine:
    why = cell(report.run.deviates or "no published figure was compared")
    lowest = lowest_robust(at_the_budget(report.measurements))
    if lowest is None:
        count = plural(len(report.measurements), "rate")
        return VerdictLine("MEASURED", f"{count}, none under attack; {why}.", "unclear")
    sentence = f"the lowest robust accuracy is {measurement(lowest)} ({cell(lowest.model)}); {why}."
    return VerdictLine("MEASURED", sentence, "unclear")


def _findings(report: Report) -> str:
    """How many findings there are that the tool did not make itself, and the worst severity among them."""
    counted = [finding for finding in report.findings if not finding.planted]
    if not counted:
        return "No finding beyond what the tool planted itself."
    code = [finding for finding in counted if finding.id.startswith(CODE_FINDING)]
    other = [finding for finding in counted if finding not in code]
    texts = [_worst(other, "")] if other else []
    texts += [_worst(code, " in the audited code")] if code else []
    return " ".join(texts)


def _worst(findings: Sequence[Finding], where: str) -> str:
    worst = max((finding.severity for finding in findings), key=lambda severity: severity.rank)
    return f"{plural(len(findings), 'finding')}{where}, the worst {worst.value}."
