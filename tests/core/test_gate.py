"""`--fail-on`: findings first, and no number that is not to be trusted passes."""

from __future__ import annotations

from typing import Any

import pytest

from secure_ai.core.findings import FailOn, gate

LOW: list[dict[str, Any]] = [{"severity": "low", "planted": False}]


@pytest.mark.parametrize(
    ("findings", "fail_on", "verdicts", "code"),
    [
        (LOW, "never", ["broken"], 0),
        (LOW, "low", ["reliable"], 1),
        (LOW, "low", ["broken"], 1),
        (LOW, "high", ["reliable", "reliable"], 0),
        (LOW, "high", ["reliable", "doubtful"], 3),
        ([], "low", ["broken"], 3),
        ([], "low", [], 0),
    ],
)
def test_the_exit_code_of_a_gate(findings: Any, fail_on: FailOn, verdicts: list[str], code: int) -> None:
    assert gate(findings, fail_on, verdicts) == code
