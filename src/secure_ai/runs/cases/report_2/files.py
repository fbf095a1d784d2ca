"""Report 2's pictures; it names no files of its own."""

from __future__ import annotations

from secure_ai.core.result import Result
from secure_ai.runs.cases.case import Chart
from secure_ai.runs.cases.report_2.ids import BASELINE, DEFENDED, POISONED
from secure_ai.runs.recipe.recipe import Recipe

CHARTS = (
    Chart("report2_baseline_confusion", "Report 2 baseline, clean test images", "confusion",
          {"": f"{BASELINE}/clean/confusion"}),
    Chart("report2_poisoned_confusion", "Report 2 poisoned, clean test images", "confusion",
          {"": f"{POISONED}/clean/confusion"}),
    Chart("report2_baseline_accuracy", "Report 2 baseline: accuracy by epoch", "history", {"accuracy": BASELINE}),
    Chart(
        "report2_fgsm_comparison", "Accuracy of report 2's networks, clean and attacked", "bars",
        {
            "baseline\nclean": f"{BASELINE}/clean",
            "baseline\nFGSM": f"{BASELINE}/fgsm",
            "defended\nclean": f"{DEFENDED}/clean",
            "defended\nFGSM": f"{DEFENDED}/fgsm",
            "defended\nPGD": f"{DEFENDED}/pgd",
        },
    ),
)  # fmt: skip


def files(result: Result, recipe: Recipe) -> dict[str, bytes]:
    """None."""
    return {}
