"""What a target offers decides what may attack it; queries are counted; without gradients nothing is reliable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.errors import AttackSettingsError
from secure_ai.core.trust import CheckOutcome, Verdict
from secure_ai.models.target.access import Access
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import AttackEntry
from secure_ai.red.evasion.suite.access import NEEDS, access_check
from secure_ai.red.evasion.suite.catalogue import ATTACKS
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks, parse_suite
from secure_ai.red.evasion.trust.judge import judge_suite

LINF = PerturbationBudget("linf", 0.1)


def limited(case: Any, access: Access) -> NetworkTarget:
    target: NetworkTarget = case.target
    return NetworkTarget(
        target.network,
        name="limited",
        digest="d" * 64,
        input_shape=target.input_shape,
        num_classes=target.num_classes,
        access=access,
    )


@pytest.mark.parametrize(
    ("access", "norm", "names"),
    [
        ("scores", "linf", ["square", "noise"]), ("scores", "l0", ["noise"]),
        ("labels", "l2", ["hopskipjump", "noise"]),
        ("labels", "l1", ["noise"]),
    ],
)  # fmt: skip
def test_fast_means_what_the_access_allows(access: Access, norm: Norm, names: list[str]) -> None:
    assert [plan.name for plan in parse_suite("fast", norm, access, 10, 5).plans] == names
    assert parse_suite("fast", norm, "gradients", 10, 5).plans == parse_attacks("fast", norm)


@pytest.mark.parametrize(
    ("text", "access", "told"),
    [("pgd", "scores", "square"), ("autoattack", "scores", "square"), ("square", "labels", "hopskipjump")],
)
def test_an_attack_that_needs_more_is_refused_and_what_works_is_named(text: str, access: Access, told: str) -> None:
    with pytest.raises(AttackSettingsError) as caught:
        parse_suite(text, "linf", access, 10, 5)
    assert told in caught.value.expected
    assert "pgd," not in str(caught.value.expected)


def test_the_harness_itself_refuses_before_any_pass(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(8)
    target = limited(case, "scores")
    with pytest.raises(AttackSettingsError, match="needs gradients"):
        run_suite(target, case.x, case.y, budget=LINF, attacks=parse_attacks("fgsm"), seed=0)
    assert target.passes.forward == 0


def test_every_knowledge_has_its_need() -> None:
    assert {entry.knowledge for entry in ATTACKS} <= NEEDS.keys()


@pytest.mark.parametrize(
    ("text", "access"),
    [("square:query_budget=60", "scores"), ("hopskipjump:query_budget=200:minimize=false", "labels")],
)
def test_queries_are_counted_per_sample_and_add_up(text: str, access: Access, cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(40)
    found = run_suite(limited(case, access), case.x, case.y, budget=LINF, attacks=parse_attacks(text), seed=0)
    row = found.rows[0]
    assert row.queries is not None
    assert round(row.queries.mean * row.attempted) == row.forward_passes - row.attempted  # one is our verification
    budget = int(row.plan.settings["query_budget"])
    saved = 5 if row.plan.name == "square" else 0  # windows that changed nothing
    assert budget - saved <= row.queries.max <= budget
    assert row.queries.mean < row.queries.max or row.broken == 0
    assert row.as_json()["queries"] == {"mean": row.queries.mean, "max": row.queries.max}


def test_white_box_attacks_count_no_queries(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(8)
    found = run_suite(case.target, case.x, case.y, budget=LINF, attacks=parse_attacks("fgsm"), seed=0)
    assert found.rows[0].as_json()["queries"] is None


def test_the_same_search_with_scores_as_with_gradients(cnn_case: Callable[..., Any]) -> None:
    case, plans = cnn_case(30), parse_attacks("square:query_budget=40")
    whole = run_suite(case.target, case.x, case.y, budget=LINF, attacks=plans, seed=0)
    scores = run_suite(limited(case, "scores"), case.x, case.y, budget=LINF, attacks=plans, seed=0)
    assert np.array_equal(whole.robust, scores.robust)
    assert 0 < int(whole.robust.sum()) < 30


@pytest.mark.parametrize("access", ["scores", "labels"])
def test_without_gradients_no_number_is_reliable(access: Access, cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(8)
    plans = parse_attacks("noise")
    trust = judge_suite(run_suite(limited(case, access), case.x, case.y, budget=LINF, attacks=plans, seed=0))
    assert next(check for check in trust.checks if check.id == "access").outcome is CheckOutcome.FAIL
    assert trust.verdict is not Verdict.RELIABLE
    assert access_check("gradients").outcome is CheckOutcome.PASS


# --- few classes ------------------------------------------------------------------------------------------------------

QUICK = {
    "steps": 4, "query_budget": 130, "restarts": 1, "binary_search_steps": 2, "eot_samples": 1, "draws": 2,
    "targets": 9,
}  # fmt: skip
FASTER: dict[str, dict[str, float]] = {"cw": {"initial_const": 10.0, "learning_rate": 0.5}, "sigma-zero": {"steps": 20}}
"""Where the steps of QUICK would be too few or too short to break anything."""


class Few(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 36, generator=torch.Generator().manual_seed(classes)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5).flatten(1) @ self.weight.T


@pytest.mark.parametrize("entry", ATTACKS, ids=lambda entry: entry.name)
@pytest.mark.parametrize("classes", [2, 3])
def test_no_attack_needs_four_classes(entry: AttackEntry, classes: int) -> None:
    """Some ratios of logits are not defined below 4 classes; the attack must find another way, and succeed."""
    x = 0.4 + 0.2 * torch.rand((6, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    target = NetworkTarget(Few(classes), name="few", digest="d" * 64, input_shape=(1, 6, 6), num_classes=classes)
    y = target.predict(x)
    quick = {key: value for key, value in QUICK.items() if key in entry.settings}
    chosen = {**quick, **FASTER.get(entry.name, {})}
    for norm in entry.norms:
        eps = {"linf": 0.45, "l2": 2.7, "l1": 12.0, "l0": 24.0}[norm]
        (plan,) = parse_attacks(":".join((entry.name, *(f"{key}={value}" for key, value in chosen.items()))), norm)
        found = run_suite(target, x, y, budget=PerturbationBudget(norm, eps), attacks=[plan], seed=0)
        assert found.rows[0].attempted == 6
        assert found.complete
        assert found.rows[0].broken > 0, norm
