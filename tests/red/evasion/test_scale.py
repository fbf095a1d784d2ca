"""Logits times a power of two: attacks on a margin, a ratio or a label give the same bits, and nothing else hides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.math.scale import to_unit, to_usual_logits, unit_sized
from secure_ai.red.evasion.suite.catalogue import ATTACKS
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.judged import judge_network

EXPONENTS = (-40, -24, 40)
EPS: dict[Norm, float] = {"linf": 0.08, "l2": 0.5, "l1": 2.0, "l0": 3.0}
CROSS_ENTROPY = {"fgsm", "pgd", "apgd-ce", "ddn"}  # their losses know the size of the logits
NO_LOSS_OF_THE_TARGET = {"noise", "transfer", "examples"}
SHORT = {
    "apgd-dlr": "steps=8", "apgd-t": "steps=8:targets=3", "fab": "steps=6", "fab-t": "steps=6:targets=3",
    "square": "query_budget=40", "fmn": "steps=10", "cw": "steps=8:binary_search_steps=3", "deepfool": "steps=5",
    "sigma-zero": "steps=10", "hopskipjump": "query_budget=150", "odi-pgd": "steps=6:restarts=2",
}  # fmt: skip


class Scaled(nn.Module):
    """A small smooth network of five classes; its logits times 2^exponent."""

    def __init__(self, exponent: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randn(24, 16, generator=random) / 4)
        self.second = nn.Parameter(2 * torch.randn(5, 24, generator=random))
        self.factor = 2.0**exponent

    def forward(self, x: Tensor) -> Tensor:
        return (torch.tanh(x.flatten(1) @ self.first.T) @ self.second.T) * self.factor


def target(exponent: int) -> NetworkTarget:
    return NetworkTarget(Scaled(exponent), name="s", digest="", input_shape=(1, 4, 4), num_classes=5)


def data() -> tuple[Tensor, Tensor]:
    x = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    return x, target(0).predict(x)


def made(text: str, norm: Norm, exponent: int) -> Tensor:
    (plan,) = parse_attacks(text, norm)
    x, y = data()
    budget = PerturbationBudget(norm, EPS[norm])
    with target(exponent).attacked():
        return plan.entry.attack(
            target(exponent), x, y, budget=budget, generator=generator(0, "scale"), **plan.all_settings
        )


CASES = [
    (f"{entry.name}:{SHORT[entry.name]}", norm)
    for entry in ATTACKS
    if entry.name not in CROSS_ENTROPY | NO_LOSS_OF_THE_TARGET and entry.name in SHORT
    for norm in entry.norms
]


def test_every_attack_is_under_the_law_or_named_as_an_exception() -> None:
    assert {entry.name for entry in ATTACKS} == set(SHORT) | CROSS_ENTROPY | (
        NO_LOSS_OF_THE_TARGET & {entry.name for entry in ATTACKS}
    )


@pytest.mark.parametrize(("text", "norm"), CASES)
def test_logits_times_a_power_of_two_give_the_same_bits(text: str, norm: Norm) -> None:
    x, _ = data()
    plain = made(text, norm, 0)
    assert not torch.equal(plain, x)
    for exponent in EXPONENTS:
        assert torch.equal(made(text, norm, exponent), plain), exponent


def test_the_factors_are_exact_and_zero_stays() -> None:
    values = torch.tensor([[3.0, -4.0], [0.0, 0.0], [1e-12, 2e-12], [0.5, 0.25]])
    largest = (values * to_unit(values)[:, None]).abs().amax(dim=1)
    assert bool((((largest >= 0.5) & (largest < 1)) | (largest == 0)).all())
    assert torch.equal(torch.frexp(to_unit(values)).mantissa, torch.full((4,), 0.5))
    assert torch.equal(unit_sized(values[:, None, None]), values[:, None, None] * to_unit(values).view(-1, 1, 1, 1))
    spread = torch.tensor([[0.0, 20.0], [0.0, 20 * 2.0**-30], [1.0, 1.0]])
    assert to_usual_logits(spread).tolist() == [1.0, 2.0**30, 1.0]


@pytest.mark.parametrize("exponent", [-40, 40])
def test_a_suite_on_cross_entropy_loses_at_most_a_point_or_a_check_fails(
    exponent: int, smaller_probes: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secure_ai.red.evasion.trust.judged.SETTLED_BY", frozenset())  # one attack is too weak for them
    x, y = data()
    dataset = Dataset(x.numpy(), y.numpy().astype(np.int64), "d", 5)
    attacks = parse_attacks("apgd-ce:steps=10", "linf")

    def judged(power: int) -> Any:
        return judge_network(target(power), dataset, PerturbationBudget("linf", EPS["linf"]), attacks, 0)

    plain, scaled = judged(0), judged(exponent)
    rise = scaled.robust_accuracy.bounds.value - plain.robust_accuracy.bounds.value
    failed = {made.id for made in scaled.trust.checks if made.outcome == "fail"}
    new = failed - {made.id for made in plain.trust.checks if made.outcome == "fail"}
    assert rise <= 0.01 or new
    assert exponent < 0 or {"saturated-loss", "zero-gradients"} <= new
