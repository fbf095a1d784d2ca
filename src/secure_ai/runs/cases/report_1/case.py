"""Report 1 as one value; its networks are imported when a plan asks for them, because they need torch."""

from __future__ import annotations

from typing import Any

from secure_ai.runs.cases.case import Case
from secure_ai.runs.cases.report_1.figures import CLAIMS, FIGURES
from secure_ai.runs.cases.report_1.files import CHARTS, files
from secure_ai.runs.cases.report_1.ids import REPORT
from secure_ai.runs.cases.report_1.stories import STORIES
from secure_ai.runs.cases.report_1.threats import ROWS
from secure_ai.runs.engine.measure import Joint, Network
from secure_ai.runs.recipe.recipe import Recipe


def _networks(recipe: Recipe) -> tuple[Network, ...]:
    from secure_ai.runs.cases.report_1.networks import networks

    return networks(recipe)


def _joints(recipe: Recipe) -> tuple[Joint[Any], ...]:
    from secure_ai.runs.cases.report_1.networks import joints

    return joints(recipe)


CASE = Case(
    id=REPORT,
    section=lambda recipe: recipe.report_1,
    networks=_networks,
    joints=_joints,
    eps=lambda recipe: recipe.report_1.eps,
    gallery=(
        "adversarial_examples_report_1",
        "Adversarial examples for report 1's networks; prediction and confidence below",
    ),
    figures=(*FIGURES, *CLAIMS),
    threats=ROWS,
    charts=CHARTS,
    stories=STORIES,
    files=files,
)
