"""The page that explains the verdict names every check that there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secure_ai.core.budget import PerturbationBudget
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.judge import judge_suite
from secure_ai.red.evasion.trust.probes.diagnose import diagnose

PAGE = Path(__file__).parents[4] / "docs" / "checks.md"
OTHERS = {
    "random-sample",
    "classes-in-data",
    "full-range",
    "unbounded-distance",
    "distinct-images",
    "same-answers-after",
}  # made where data and calls are known


def test_every_check_is_explained_and_no_other(cnn_case: Callable[..., Any]) -> None:
    case, budget, plans = cnn_case(12), PerturbationBudget("linf", 0.05), parse_attacks("fgsm")
    result = run_suite(case.target, case.x, case.y, budget=budget, attacks=plans, seed=0)
    probed = diagnose(case.target, case.x, case.y, budget, 0, attacks=plans, robust=result.robust)
    trust = judge_suite(result, more=probed)
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert explained == {check.id for check in trust.checks} | OTHERS


def test_the_page_on_verdicts_says_what_to_do_about_each() -> None:
    explained = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = (PAGE.parent / "trust.md").read_text(encoding="utf-8")
    assert [check for check in explained if f"`{check}`" not in text] == []
