"""What stages found is judged again before it is written: records may be damaged, or made by other code."""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.core.errors import FormatError
from secure_ai.core.trust import judge
from secure_ai.red.evasion.trust.required import BREAKING
from secure_ai.report.consistency import refuse_inconsistent
from secure_ai.report.model import Report
from secure_ai.runs.outputs.facts import RunFacts

WHERE = "stage"


def refuse_disagreeing(report: Report, facts: RunFacts) -> None:
    """Raises FormatError for a rate, a verdict or a number of samples that does not follow from what is there."""
    refuse_inconsistent(report, WHERE)
    most = _images(facts)
    networks = set(facts.plan.networks) | {model.id for model in report.models}
    for entry in report.measurements:
        if entry.trust is not None:
            computed = judge(entry.trust.checks, breaking=BREAKING).verdict
            if computed is not entry.trust.verdict:
                where = f"{WHERE} {entry.stage}, {entry.id}"
                raise FormatError(
                    "a verdict that its checks do not give", where=where, expected=computed, got=entry.trust.verdict
                )
        limit = most.get(entry.stage, 0)
        if limit and entry.model in networks and entry.value.n > limit:
            where = f"{WHERE} {entry.stage}, {entry.id}"
            raise FormatError("more samples than the data have", where=where, expected=limit, got=entry.value.n)


def _images(facts: RunFacts) -> Mapping[str, int]:
    """Images of the largest data set that each stage reads."""
    sizes = {role: len(dataset) for role, dataset in facts.data.items()}
    return {stage.id: max((sizes.get(role, 0) for role in stage.data), default=0) for stage in facts.plan.stages}
