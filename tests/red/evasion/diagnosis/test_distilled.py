"""Transfer from an imitation: a router that gradients do not see is found, and an honest network is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.trust import Check, CheckOutcome
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.probes.distilled import distilled_transfer
from secure_ai.red.evasion.trust.probes.probe import drawn

SUITE = "apgd-ce:steps=20,apgd-t:steps=10:targets=3"
LINF = PerturbationBudget("linf", 0.2)


@pytest.fixture(autouse=True)
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secure_ai.red.evasion.trust.probes.distilled.ROUNDS", 2)


def judged(small_zoo: Any, network: nn.Module, budget: PerturbationBudget = LINF) -> Check:
    target, x, y = small_zoo.target(network.eval()), small_zoo.data.images, small_zoo.data.labels
    result = run_suite(target, x, y, budget=budget, attacks=parse_attacks(SUITE), seed=0)
    with target.attacked():
        return distilled_transfer(drawn(target, x, y, budget, 0), x, y, result.robust)


def test_a_router_that_gradients_do_not_see_is_found(small_zoo: Any) -> None:
    router, expert = small_zoo.networks["strided"], small_zoo.networks["mlp-pgd-0.2"]
    found = judged(small_zoo, small_zoo.defences.Routed(router, expert))
    assert found.outcome is CheckOutcome.FAIL, found.evidence


@pytest.mark.parametrize("name", ["strided", "mlp-pgd-0.2"])  # the parts of that network
def test_an_honest_network_is_left_alone(small_zoo: Any, name: str) -> None:
    found = judged(small_zoo, small_zoo.networks[name])
    assert found.outcome is CheckOutcome.PASS, found.evidence


def test_without_survivors_there_is_nothing_to_transfer(small_zoo: Any) -> None:
    target, x, y = small_zoo.target(small_zoo.networks["mlp"]), small_zoo.data.images, small_zoo.data.labels
    with target.attacked():
        probe, nobody = drawn(target, x, y, LINF, 0), np.zeros(len(y), dtype=bool)
        assert distilled_transfer(probe, x, y, nobody).outcome is CheckOutcome.PASS
        l0 = drawn(target, x, y, PerturbationBudget("l0", 5.0), 0)
        assert distilled_transfer(l0, x, y, ~nobody).outcome is CheckOutcome.NOT_RUN
