"""Both reports' Bandit stories: the finding before, none after, and an error if Bandit no longer sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from secure_ai.audit.demonstrations import demonstrate_bandit
from secure_ai.core.errors import ChildFailedError
from secure_ai.core.findings import Severity, exceeds
from secure_ai.runs.cases.table import CASES

STORIES = tuple(story for case in CASES for story in case.stories)


def test_each_report_has_its_finding_before_the_fix_and_none_after() -> None:
    shown = demonstrate_bandit(STORIES)
    assert shown.facts == {
        "report-1/audit/medium": 1,
        "report-1/audit/medium-after-fix": 0,
        "report-2/audit/low": 1,
        "report-2/audit/low-after-fix": 0,
    }
    found = {(f.id, f.severity, f.taxonomy) for f in shown.findings}
    assert ("BANDIT-B301", Severity.MEDIUM, ("CWE-502",)) in found
    assert ("BANDIT-B101", Severity.LOW, ("CWE-703",)) in found
    assert not [f for f in shown.findings if "after" in f.location]


def test_the_findings_are_planted_and_never_count() -> None:
    findings = list(demonstrate_bandit(STORIES).findings)
    assert len(findings) == 3
    assert not exceeds(findings, "low")


def test_the_fixed_reader_refuses_what_the_assert_refused() -> None:
    story = next(s for s in STORIES if s.report == "report-2")
    names: dict[str, object] = {}
    exec(compile(story.after, "after", "exec"), names)  # our own snippet

    class Stream:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def read(self, n: int) -> bytes:
            return self.content[:n]

    read_magic = names["read_magic"]
    assert callable(read_magic)
    assert read_magic(Stream(b"\x00\x00\x08\x03")) == 2051
    with pytest.raises(ValueError, match="got 2049"):
        read_magic(Stream(b"\x00\x00\x08\x01"))


def test_a_story_that_shows_nothing_is_an_error() -> None:
    empty = tuple(replace(story, before=story.after) for story in STORIES)
    with pytest.raises(ChildFailedError) as failed:
        demonstrate_bandit(empty)
    assert failed.value.expected == STORIES[0].test_id
