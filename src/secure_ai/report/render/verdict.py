"""The first line of every output: one sentence that the measurements allow, never more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from secure_ai.core.errors import EXIT_FINDINGS, EXIT_INCONCLUSIVE, EXIT_OK
from secure_ai.core.findings import FailOn, Finding, gate
from secure_ai.core.result import SUBJECT
from secure_ai.core.results import Measurement, at_the_budget
from secure_ai.core.thresholds import ROBUST_BAR
from secure_ai.core.trust import CheckOutcome, fed_wrongly, input_warning
from secure_ai.core.trust import Verdict as TrustVerdict
from secure_ai.report.model import Figure, Report
from secure_ai.report.render.text import budget_text, cell, measurement, plural

Tone = Literal["good", "bad", "unclear"]

CLEAN = "clean_accuracy"
CODE_FINDING = "BANDIT-"
CHECK_INPUT = "CHECK THE INPUT"
NAMED = 2  # contradicted headlines that the line names
REASONS = 3  # failed checks that the line names
BAR = f"the bar is {100 * ROBUST_BAR:.0f} %"


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
    """Judge the subject where there is one, else the reports' main claims, else say what was measured.

    A run that did not complete, or a number that is not trusted, never yields a good verdict.
    """
    if any(model.role == SUBJECT for model in report.models):
        line = _subject(report)
    elif any(row.holds in ("yes", "no") for row in report.reproduction):
        line = _reproduction(report)
    else:
        line = _measured_only(report)
    sentence = f"{line.sentence} {_findings(report, line)}".strip()
    if not report.run.complete and line.word != CHECK_INPUT:
        tone: Tone = "bad" if line.tone == "bad" else "unclear"
        return VerdictLine("INCOMPLETE RUN", f"so far {line.word.lower()}: {sentence}", tone)
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


def why_exit(report: Report, fail_on: FailOn, code: int) -> str:
    """The last line of a run: why it ends with this exit code."""
    misfed = any(fed_wrongly(model.preflight) for model in report.models if model.role == SUBJECT)
    return exit_reason(code, fail_on, misfed=misfed, complete=report.run.complete)


def exit_reason(code: int, fail_on: FailOn, *, misfed: bool, complete: bool) -> str:
    """Why a command ends with this exit code."""
    if code == EXIT_FINDINGS:
        return f"exit 1: a finding is {fail_on} or worse (--fail-on {fail_on})"
    if code != EXIT_INCONCLUSIVE:
        return "exit 0: done" + ("" if fail_on == "never" else f", no finding is {fail_on} or worse")
    if misfed:
        return "exit 3: the model is fed otherwise than it was trained: no figure can be used"
    if not complete:
        return "exit 3: not everything that was asked for was measured"
    return f"exit 3: --fail-on {fail_on} takes only a robust accuracy that is reliable"


def _subject(report: Report) -> VerdictLine:
    model = next(model for model in report.models if model.role == SUBJECT)
    name = cell(model.title or model.id)
    if warning := input_warning(model.preflight):
        return VerdictLine(CHECK_INPUT, f"{name}: {cell(warning)}", "unclear")
    lowest = lowest_robust(of_subject(report))
    if lowest is None or lowest.value.ci_low is None or lowest.value.ci_high is None:
        return VerdictLine("NOT TESTED", f"no robust accuracy of {name} was measured.", "unclear")
    text = measurement(lowest)
    clean = next(
        (f"{measurement(m).main} correct on clean images, " for m in of_subject(report) if m.metric == CLEAN), ""
    )
    sentence = f"{name}: {clean}{text} under attack ({budget_text(lowest.budget) or 'no budget'}); {BAR}."
    if lowest.value.ci_high < ROBUST_BAR and not lowest.of_other_examples:
        return VerdictLine("NOT ROBUST", sentence, "bad")
    if lowest.trust is None or lowest.trust.verdict is not TrustVerdict.RELIABLE or text.word:
        return VerdictLine("NOT SHOWN", f"{sentence}{_why_not(lowest)}", "unclear")
    if lowest.value.ci_low < ROBUST_BAR:
        return VerdictLine("UNDECIDED", sentence, "unclear")
    return VerdictLine("ROBUST AT THIS BUDGET", sentence, "good")


def _why_not(lowest: Measurement) -> str:
    """The checks that keep a number from being a claim."""
    failed = [c.id for c in (lowest.trust.checks if lowest.trust else ()) if c.outcome is CheckOutcome.FAIL]
    more = f" and {len(failed) - REASONS} more" if len(failed) > REASONS else ""
    return f" No claim yet: {', '.join(failed[:REASONS])}{more} failed." if failed else ""


def _reproduction(report: Report) -> VerdictLine:
    rows = [row for row in report.reproduction if row.basis == "measured"]
    headlines = [row for row in rows if row.headline and row.holds in ("yes", "no")] or rows
    wrong = [row for row in headlines if row.holds == "no"]
    all_wrong, all_judged = _count(rows, "no"), _count(rows, "yes") + _count(rows, "no")
    share = f"Of all {all_judged} published figures and claims that were measured {all_wrong} do not"
    share += _not_measured([row for row in report.reproduction if row.basis != "measured"])
    if not wrong:
        tone: Tone = "unclear" if all_wrong else "good"
        return VerdictLine("HEADLINES HOLD", f"all {len(headlines)} main claims of the reports hold. {share}.", tone)
    named = "; ".join(_contradiction(row) for row in wrong[:NAMED])
    more = f"; {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    counted = f"{len(wrong)} of {len(headlines)} main claims of the reports are wrong when measured correctly"
    return VerdictLine("DOES NOT HOLD", f"{counted}: {named}{more}. {share}.", "bad")


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
    if not report.measurements:
        return VerdictLine("NOT TESTED", "nothing was measured.", "unclear")
    why = f"; {cell(report.run.deviates)}" if report.run.deviates else ""
    lowest = lowest_robust(at_the_budget(report.measurements))
    if lowest is None:
        count = plural(len(report.measurements), "rate")
        return VerdictLine("MEASURED", f"{count}, none under attack{why}.", "unclear")
    sentence = f"the lowest robust accuracy is {measurement(lowest)} ({cell(lowest.model)}){why}."
    return VerdictLine("MEASURED", sentence, "unclear")


def _findings(report: Report, line: VerdictLine) -> str:
    """How many findings there are that the tool did not make itself, and the worst severity among them."""
    counted = [finding for finding in report.findings if not finding.planted]
    if not counted:  # never said beside a bad verdict, of an unfinished run, nor where nothing was asked
        asked = report.run.complete and report.measurements and line.word != CHECK_INPUT
        return "No findings." if asked and line.tone != "bad" else ""
    code = [finding for finding in counted if finding.id.startswith(CODE_FINDING)]
    other = [finding for finding in counted if finding not in code]
    texts = [_worst(other, "")] if other else []
    texts += [_worst(code, " in the audited code")] if code else []
    return " ".join(texts)


def _worst(findings: Sequence[Finding], where: str) -> str:
    worst = max((finding.severity for finding in findings), key=lambda severity: severity.rank)
    return f"{plural(len(findings), 'finding')}{where}, the worst {worst.value}."
