"""The audits of a run: Bandit over this package, the cache demonstration, and the reports' Bandit stories."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import secure_ai
from secure_ai.audit.cache_demo import UNSAFE_SWITCH, demonstrate_cache
from secure_ai.audit.code import audit_code
from secure_ai.audit.demonstrations import Story, demonstrate_bandit
from secure_ai.audit.triage import OWN_PACKAGE
from secure_ai.core.findings import Outcome
from secure_ai.core.result import Result
from secure_ai.core.results import MeasuredChoice, MeasuredQuantity
from secure_ai.runs.engine.measure import Context, Joint, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.refusals import refusals

PACKAGE = Path(secure_ai.__file__).parent
CODE = "code"  # stands where other entries name a model

Subjects = Mapping[str, Subject]


class SourceSettings(Settings):
    """Digest of every file of the package."""

    source: str


class StoriesSettings(Settings):
    """Of every report, also where its networks are not in the run."""

    stories: tuple[Story, ...]


class CacheSettings(Settings):
    """Whether the pickle is really read, in a child."""

    allow_unsafe_pickle: bool


def code(subjects: Subjects, settings: SourceSettings, context: Context) -> Result:
    """Bandit over the package as it is installed."""
    audit = audit_code(PACKAGE, events=context.events, exclude=["__pycache__"], triage=OWN_PACKAGE)
    context.keep("files/bandit.json", audit.bandit_json)
    context.keep("files/bandit.txt", audit.bandit_txt)
    outcomes = tuple(outcome.value for outcome in Outcome)
    return Result(
        findings=audit.findings,
        choices=(
            MeasuredChoice(
                id="audit/code/outcome", model=CODE, metric="audit_outcome", value=audit.outcome.value,
                allowed=outcomes, stage="",
            ),
        ),
        quantities=(_count("audit/code/files", audit.files, "files"), _count("audit/code/lines", audit.lines, "lines")),
    )  # fmt: skip


def cache(subjects: Subjects, settings: CacheSettings, context: Context) -> Result:
    """Report 1's cache: JSON by default; with the switch set, a pickle really runs code, in a child."""
    shown = demonstrate_cache(allow_unsafe=settings.allow_unsafe_pickle, events=context.events)
    return Result(findings=shown.findings)


def demonstrations(subjects: Subjects, settings: StoriesSettings, context: Context) -> Result:
    """What Bandit said of published code, and what it says after the fix."""
    shown = demonstrate_bandit(settings.stories, events=context.events)
    return Result(
        findings=shown.findings,
        quantities=tuple(_count(name, value, "findings") for name, value in shown.facts.items()),
    )


def _count(identifier: str, value: float, unit: str) -> MeasuredQuantity:
    return MeasuredQuantity(
        id=identifier, model=CODE, metric=identifier.rpartition("/")[2], value=value, unit=unit, stage=""
    )


def audit_rows(code_digest: str, stories: tuple[Story, ...]) -> tuple[Joint[Any], ...]:
    """The rows; the first depends on every file of the package."""
    unsafe = os.environ.get(UNSAFE_SWITCH) == "1"
    return (
        Joint(id="audit/code", function=code, settings=SourceSettings(source=code_digest), seconds=8),
        Joint(id="audit/cache", function=cache, settings=CacheSettings(allow_unsafe_pickle=unsafe), seconds=1),
        Joint(id="audit/demonstrations", function=demonstrations, settings=StoriesSettings(stories=stories), seconds=4),
        Joint(id="audit/refusals", function=refusals, settings=Settings(), seconds=2),
    )
