"""What Bandit said of report 2's code, as a snippet before and after the fix."""

from __future__ import annotations

from secure_ai.audit.demonstrations import Story
from secure_ai.core.findings import Severity
from secure_ai.runs.cases.report_2.ids import REPORT

STORIES = (
    Story(
        report=REPORT,
        severity=Severity.LOW,
        test_id="B101",
        before="""import struct


def read_magic(stream):
    magic = struct.unpack(">I", stream.read(4))[0]
    assert magic == 2051
    return magic
""",
        after="""import struct


def read_magic(stream):
    magic = struct.unpack(">I", stream.read(4))[0]
    if magic != 2051:
        raise ValueError(f"expected magic number 2051, got {magic}")
    return magic
""",
    ),
)
