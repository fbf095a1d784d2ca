"""Report 2 as one value; its networks are imported when a plan asks for them, because they need torch."""

from __future__ import annotations

from secure_ai.runs.cases.case import Case
from secure_ai.runs.cases.report_2.figures import CLAIMS, FIGURES
from secure_ai.runs.cases.report_2.files import CHARTS, files
from secure_ai.runs.cases.report_2.ids import REPORT
from secure_ai.runs.cases.report_2.stories import STORIES
from secure_ai.runs.cases.report_2.threats import ROWS
from secure_ai.runs.engine.measure import Network
from secure_ai.runs.recipe.recipe import Recipe


def _networks(recipe: Recipe) -> tuple[Network, ...]:
    from secure_ai.runs.cases.report_2.networks import networks

    return networks(recipe)


CASE = Case(
    id=REPORT,
    section=lambda recipe: recipe.report_2,
    networks=_networks,
    eps=lambda recipe: recipe.report_2.eps,
    gallery=(
        "adversarial_examples_report_2",
        "Adversarial examples for report 2's networks; prediction and confidence below",
    ),
    figures=(*FIGURES, *CLAIMS),
    threats=ROWS,
    charts=CHARTS,
    stories=STORIES,
    files=files,
)
