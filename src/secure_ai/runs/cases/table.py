"""Every case whose networks this tool trains itself."""

from __future__ import annotations

from secure_ai.runs.cases.case import Case
from secure_ai.runs.cases.defences.case import CASE as DEFENCES
from secure_ai.runs.cases.report_1.case import CASE as REPORT_1
from secure_ai.runs.cases.report_2.case import CASE as REPORT_2

CASES: tuple[Case, ...] = (REPORT_1, REPORT_2, DEFENCES)
