"""The rows of the catalogue, what the attacks cost, and AutoAttack's protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from secure_ai.core.budget import NORMS, Norm
from secure_ai.core.errors import AttackSettingsError
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.autoattack import AUTOATTACK, Protocol, autoattack
from secure_ai.red.evasion.suite.costs import COSTS
from secure_ai.red.evasion.suite.reference import REFERENCE_ATTACKS

ROWS = [(name, norm) for name, entry in REFERENCE_ATTACKS.items() for norm in entry.norms]
SMALL: dict[str, int] = {"steps": 6, "restarts": 2, "query_budget": 25, "binary_search_steps": 3, "eot_samples": 2}
PAPER: dict[str, tuple[int, int]] = {
    "apgd-ce": (101, 100),
    "apgd-t": (1 + 9 * 101, 900),
    "fab-t:minimize=false": (1 + 9 * 200, 900),
    "square": (5000, 0),
    "apgd-ce:restarts=5:radius_schedule=true": (5 * 103, 500),
    "apgd-t:targets=5:radius_schedule=true": (1 + 5 * 103, 500),
    "apgd-ce:restarts=5": (5 * 101, 500),
    "apgd-dlr:restarts=5": (5 * 101, 500),
    "fab:restarts=5:minimize=false": (5 * 200, 5 * 100 * 9),
    "apgd-ce:eot_samples=20": (20 * 101, 20 * 100),
    "apgd-dlr:eot_samples=20": (20 * 101, 20 * 100),
}
"""Member of AutoAttack -> forward and backward passes that it spends on a sample of 10 classes that it never breaks:
100 steps, 9 targets, 5,000 queries, 5 restarts in l1's `standard` and in `plus`, 20 draws in `rand` (2003.01690,
section 5 and the public code; l1: 2103.01208, section 5)."""
MEMBERS = [
    (protocol, norm, text)
    for protocol, norms in AUTOATTACK.items()
    for norm, texts in norms.items()
    for text in texts.split(",")
]


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    name, *pairs = text.split(":")
    settings = dict(REFERENCE_ATTACKS[name].settings)
    for key, value in (pair.split("=") for pair in pairs):
        settings[key] = value == "true" if isinstance(settings[key], bool) else type(settings[key])(value)
    return name, settings


@pytest.mark.parametrize(("name", "norm"), [row for row in ROWS if row[0] != "hopskipjump"])
@pytest.mark.parametrize("classes", [3, 5])
def test_costs_are_exact_for_a_sample_that_is_never_broken(
    name: str, norm: Norm, classes: int, stubborn: Callable[[int], NetworkTarget], run: Any
) -> None:
    target, x = stubborn(classes), torch.full((2, 1, 6, 6), 0.5)
    settings = {**REFERENCE_ATTACKS[name].settings}
    settings |= {key: value for key, value in SMALL.items() if key in settings}
    run(name, target, x, torch.zeros(2, dtype=torch.int64), norm, 1.0, **settings)
    cost = COSTS[name](settings, norm, classes)
    assert (target.passes.forward, target.passes.backward) == (2 * cost.forward, 2 * cost.backward)


@pytest.mark.parametrize(("norm", "text"), sorted({(norm, text) for _, norm, text in MEMBERS}))
def test_autoattack_s_cost_is_stated_as_the_protocol_says(norm: Norm, text: str) -> None:
    name, settings = parsed(text)
    cost = COSTS[name](settings, norm, 10)
    assert (cost.forward, cost.backward) == PAPER[text]


@pytest.mark.parametrize(("text", "norm"), sorted({text: norm for _, norm, text in reversed(MEMBERS)}.items()))
def test_autoattack_spends_what_the_protocol_says(
    text: str, norm: Norm, stubborn: Callable[[int], NetworkTarget], run: Any
) -> None:
    """Every member as it is written, in the first norm that writes it so."""
    target, x = stubborn(10), torch.full((1, 1, 6, 6), 0.5)
    name, settings = parsed(text)
    run(name, target, x, torch.zeros(1, dtype=torch.int64), norm, 1.0, **settings)
    assert (target.passes.forward, target.passes.backward) == PAPER[text]


def test_every_row_says_what_it_takes() -> None:
    assert set(COSTS) == set(REFERENCE_ATTACKS)
    for entry in REFERENCE_ATTACKS.values():
        assert set(entry.norms) <= set(NORMS)
        assert entry.source
        numbers = {key for key, value in entry.settings.items() if not isinstance(value, bool | str)}
        assert numbers == set(entry.limits)
        for key, (low, high) in entry.limits.items():
            default = entry.settings[key]
            assert isinstance(default, int | float)
            assert low <= default <= high


def test_protocols_list_known_members_in_the_published_order() -> None:
    assert set(AUTOATTACK) == set(get_args(Protocol))
    members: dict[tuple[str, str], list[str]] = {}
    for protocol, norm, text in MEMBERS:
        members.setdefault((protocol, norm), []).append(parsed(text)[0])
    for norm in ("linf", "l2", "l1"):
        assert members["standard", norm] == ["apgd-ce", "apgd-t", "fab-t", "square"]
        assert members["rand", norm] == ["apgd-ce", "apgd-dlr"]
    for norm in ("linf", "l2"):
        expected = ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
        assert members["plus", norm] == expected
    with pytest.raises(AttackSettingsError, match="not defined for this norm"):
        autoattack("plus", "l1")
    with pytest.raises(AttackSettingsError, match="not defined for this norm"):
        autoattack("standard", "l0")
