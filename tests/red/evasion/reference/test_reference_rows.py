"""What the attacks cost, and AutoAttack's protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from secure_ai.core.budget import Norm
from secure_ai.core.errors import AttackSettingsError
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import AttackEntry
from secure_ai.red.evasion.suite.autoattack import AUTOATTACK, Protocol
from secure_ai.red.evasion.suite.catalogue import ATTACKS
from secure_ai.red.evasion.suite.parse import parse_attacks

ROWS = [(entry, norm) for entry in ATTACKS for norm in entry.norms if entry.name not in ("fgsm", "hopskipjump")]
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


@pytest.mark.parametrize(("entry", "norm"), ROWS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("classes", [3, 5])
def test_costs_are_exact_for_a_sample_that_is_never_broken(
    entry: AttackEntry, norm: Norm, classes: int, stubborn: Callable[[int], NetworkTarget], run: Any
) -> None:
    target, x = stubborn(classes), torch.full((2, 1, 6, 6), 0.5)
    settings = {**entry.settings}
    settings |= {key: value for key, value in SMALL.items() if key in settings}
    run(entry.name, target, x, torch.zeros(2, dtype=torch.int64), norm, 1.0, **settings)
    assert entry.passes is not None
    cost = entry.passes(settings, classes, norm)
    assert (target.passes.forward, target.passes.backward) == (2 * cost.forward, 2 * cost.backward)


@pytest.mark.parametrize(("norm", "text"), sorted({(norm, text) for _, norm, text in MEMBERS}))
def test_autoattack_s_cost_is_stated_as_the_protocol_says(norm: Norm, text: str) -> None:
    (plan,) = parse_attacks(text)
    assert plan.entry.passes is not None
    assert plan.entry.passes(plan.settings, 10, norm) == PAPER[text]


@pytest.mark.parametrize(("text", "norm"), sorted({text: norm for _, norm, text in reversed(MEMBERS)}.items()))
def test_autoattack_spends_what_the_protocol_says(
    text: str, norm: Norm, stubborn: Callable[[int], NetworkTarget], run: Any
) -> None:
    """Every member as it is written, in the first norm that writes it so."""
    target, x = stubborn(10), torch.full((1, 1, 6, 6), 0.5)
    (plan,) = parse_attacks(text)
    run(plan.name, target, x, torch.zeros(1, dtype=torch.int64), norm, 1.0, **plan.settings)
    assert (target.passes.forward, target.passes.backward) == PAPER[text]


def test_protocols_list_known_members_in_the_published_order() -> None:
    assert set(AUTOATTACK) == set(get_args(Protocol))
    members: dict[tuple[str, str], list[str]] = {}
    for protocol, norm, text in MEMBERS:
        members.setdefault((protocol, norm), []).append(text.partition(":")[0])
    for norm in ("linf", "l2", "l1"):
        assert members["standard", norm] == ["apgd-ce", "apgd-t", "fab-t", "square"]
        assert members["rand", norm] == ["apgd-ce", "apgd-dlr"]
    for norm in ("linf", "l2"):
        expected = ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
        assert members["plus", norm] == expected
    for name, norm in (("plus", "l1"), ("autoattack", "l0")):
        with pytest.raises(AttackSettingsError) as refused:
            parse_attacks(name, norm)
        assert refused.value.got == norm
