"""The first line of every output: one sentence that the measurements allow, never more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_OK
from secure_ai.core.findings import FailOn, Finding, Severity, gate
from secure_ai.core.results import at_the_budget
from secure_ai.core.trust import Verdict as TrustVerdict
from secure_ai.report.render.text import budget_text, cell, measurement_text, plural, trust_word

Report = Mapping[str, Any]
Tone = Literal["good", "bad", "unclear"]

ROBUST_BAR = 0.80  # the least robust accuracy that is called robust at its budget
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
    if any(model["role"] == SUBJECT for model in report["models"]):
        line = _subject(report)
    elif any(row["holds"] in ("yes", "no") for row in report["reproduction"]):
        line = _reproduction(report)
    else:
        line = _measured_only(report)
    sentence = f"{line.sentence} {_findings(report)}"
    if not report["run"]["complete"]:
        tone: Tone = "bad" if line.tone == "bad" else "unclear"
        return VerdictLine("INCOMPLETE RUN", f"{line.word.lower()}: {sentence}", tone)
    return VerdictLine(line.word, sentence, line.tone)


def lowest_robust(measurements: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The measurement with the lowest robust accuracy, or None without any."""
    robust = [m for m in measurements if m["metric"] == "robust_accuracy" and m["value"]["value"] is not None]
    return min(robust, key=lambda m: float(m["value"]["value"]), default=None)


def of_subject(report: Report) -> list[Mapping[str, Any]]:
    """The measurements of the user's own network at the budget asked for."""
    subjects = {model["id"] for model in report["models"] if model["role"] == SUBJECT}
    return [m for m in at_the_budget(report["measurements"]) if m["model"] in subjects]


def gate_report(report: Report, fail_on: FailOn) -> int:
    """The exit code of `--fail-on` for a run; one that was not completed passes no gate either."""
    verdicts = [m["trust"]["verdict"] for m in of_subject(report) if m["metric"] == "robust_accuracy" and m["trust"]]
    findings = [
        Finding(id=f["id"], severity=Severity(f["severity"]), severity_rule="", message="", location="",
                planted=f["planted"])
        for f in report["findings"]
    ]  # fmt: skip
    code = gate(findings, fail_on, map(TrustVerdict, verdicts))
    unfinished = fail_on != "never" and not report["run"]["complete"]
    return EXIT_INCONCLUSIVE if code == EXIT_OK and unfinished else code


def _subject(report: Report) -> VerdictLine:
    lowest = lowest_robust(of_subject(report))
    if lowest is None:
        return VerdictLine("NOT TESTED", "no robust accuracy of the subject was measured.", "unclear")
    sentence = f"the subject keeps {measurement_text(lowest)} under {budget_text(lowest) or 'attack'}."
    rate = lowest["value"]
    if rate["ci_high"] < ROBUST_BAR:
        return VerdictLine("NOT ROBUST", sentence, "bad")
    trusted = (lowest.get("trust") or {}).get("verdict") == TrustVerdict.RELIABLE and not trust_word(lowest)
    if not trusted:
        return VerdictLine("NOT SHOWN", sentence, "unclear")
    if rate["ci_low"] < ROBUST_BAR:
        return VerdictLine("UNDECIDED", sentence, "unclear")
    return VerdictLine("ROBUST AT THIS BUDGET", sentence, "good")


def _reproduction(report: Report) -> VerdictLine:
    rows = report["reproduction"]
    headlines = [row for row in rows if row.get("headline") and row["holds"] in ("yes", "no")] or rows
    wrong = [row for row in headlines if row["holds"] == "no"]
    all_wrong, all_judged = _count(rows, "no"), _count(rows, "yes") + _count(rows, "no")
    share = f"Of all {all_judged} published figures and claims {all_wrong}"
    if not wrong:
        tone: Tone = "unclear" if all_wrong else "good"
        return VerdictLine("HEADLINES HOLD", f"all {len(headlines)} headline claims hold. {share} do not.", tone)
    named = "; ".join(_contradiction(row) for row in wrong[:NAMED])
    more = f"; {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    sentence = f"{len(wrong)} of {len(headlines)} headline claims do not hold: {named}{more}. {share} do not."
    return VerdictLine("DOES NOT HOLD", sentence, "bad")


def _count(rows: Sequence[Mapping[str, Any]], holds: str) -> int:
    return sum(row["holds"] == holds for row in rows)


def _contradiction(row: Mapping[str, Any]) -> str:
    correct = row.get("correct")
    if not correct:
        return f"“{cell(row['published']['text'])}”"
    word = f" ({cell(correct['word'])})" if correct.get("word") else ""
    condition = f" {cell(correct['condition'])}" if correct.get("condition") else ""
    value = cell(correct.get("value_text") or correct["text"])
    return f"“{cell(row['published']['text'])}” is {value}{condition}{word}"


def _measured_only(report: Report) -> VerdictLine:
    why = cell(report["run"].get("deviates") or "no published figure was compared")
    lowest = lowest_robust(at_the_budget(report["measurements"]))
    if lowest is None:
        count = plural(len(report["measurements"]), "rate")
        return VerdictLine("MEASURED", f"{count}, none under attack; {why}.", "unclear")
    sentence = f"the lowest robust accuracy is {measurement_text(lowest)} ({cell(lowest['model'])}); {why}."
    return VerdictLine("MEASURED", sentence, "unclear")


def _findings(report: Report) -> str:
    """How many findings there are that the tool did not make itself, and the worst severity among them."""
    counted = [finding for finding in report["findings"] if not finding["planted"]]
    if not counted:
        return "No finding beyond what the tool planted itself."
    code = [finding for finding in counted if str(finding["id"]).startswith(CODE_FINDING)]
    other = [finding for finding in counted if finding not in code]
    texts = [_worst(other, "")] if other else []
    texts += [_worst(code, " in the audited code")] if code else []
    return " ".join(texts)


def _worst(findings: Sequence[Mapping[str, Any]], where: str) -> str:
    worst = max((Severity(finding["severity"]) for finding in findings), key=lambda severity: severity.rank)
    return f"{plural(len(findings), 'finding')}{where}, the worst {worst.value}."
