"""What Bandit said of report 1's code, as a snippet before and after the fix."""

from __future__ import annotations

from secure_ai.audit.demonstrations import Story
from secure_ai.core.findings import Severity
from secure_ai.runs.cases.report_1.ids import REPORT

STORIES = (
    Story(
        report=REPORT,
        severity=Severity.MEDIUM,
        test_id="B301",
        before="""import pickle


def load_cache(path):
    with open(path, "rb") as stream:
        return pickle.load(stream)
""",
        after="""import json


def load_cache(path):
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)
""",
    ),
)
