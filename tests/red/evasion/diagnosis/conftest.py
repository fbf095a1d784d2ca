"""The small zoo: tiny networks trained in a second each, honest, and inside planted broken defences."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Method, half_replaced, natural
from secure_ai.blue.training.schedules import triangular
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.seeds import generator
from secure_ai.core.trust import CheckOutcome, Trust
from secure_ai.data.dataset import Dataset
from secure_ai.models.networks.built_in import build_network, torch_initialise
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.health import gradient_health
from secure_ai.red.evasion.trust.judge import judge_suite
from secure_ai.red.evasion.trust.probes.diagnose import diagnose

SUITE = "apgd-ce:steps=10,apgd-t:steps=10:targets=2,square:query_budget=60"
N = 40
BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


def module_of(name: str) -> ModuleType:
    """A helper file of the benchmarks, which share their networks and defences with these tests."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class SmallZoo:
    """Trained networks by name, the defences, and how a network is judged."""

    networks: dict[str, nn.Module]
    defences: Any
    data: Dataset

    def target(self, network: nn.Module, digest: str = "d" * 64) -> NetworkTarget:
        shape = self.data.input_shape
        return NetworkTarget(network, name="zoo", digest=digest, input_shape=shape, num_classes=10)

    def judged(self, network: nn.Module, eps: float, suite: str = SUITE) -> Trust:
        """The verdict as `attack` makes it, without preflight."""
        target, budget, plans = self.target(network), PerturbationBudget("linf", eps), parse_attacks(suite)
        x, y = self.data.images[:N], self.data.labels[:N]
        result = run_suite(target, x, y, budget=budget, attacks=plans, seed=0)
        probes = diagnose(target, x, y, budget, 0, attacks=plans, robust=result.robust)
        return judge_suite(result, gradients=gradient_health(target, x, y), more=probes)


def failed(trust: Trust) -> set[str]:
    return {check.id for check in trust.checks if check.outcome is CheckOutcome.FAIL}


def fitted(network: nn.Module, method: Method, data: Dataset, seed: int) -> nn.Module:
    plan = TrainingPlan(
        epochs=4, batch_size=50, schedule=triangular(0.004), seed=seed, adam_epsilon=1e-8, dtype=torch.float32,
        replicas=1,
    )  # fmt: skip
    train(network, data, method=method, plan=plan)
    return network.eval()


@pytest.fixture(scope="session")
def small_zoo(digits: Dataset, digits_test: Dataset) -> SmallZoo:
    for name in ("_package", "_zoo_data"):  # which the next import by their bare names
        module_of(name)
    makers, defences = module_of("_zoo_networks"), module_of("_zoo_defences")
    adversary: Callable[[float], Method] = lambda eps: half_replaced(  # noqa: E731
        makers.steps_adversary(eps, 4, 0.5, random=True, warm_up=24), 1.0
    )
    recipes: dict[str, tuple[Callable[[], nn.Module], Method]] = {
        "mlp": (makers.Mlp, natural),
        "mlp-pgd-0.1": (makers.Mlp, adversary(0.1)),
        "mlp-pgd-0.2": (makers.Mlp, adversary(0.2)),
        "strided": (lambda: makers.Strided(width=4), natural),
        "strided-pgd-0.1": (lambda: makers.Strided(width=4), adversary(0.1)),
        "strided-pgd-0.2": (lambda: makers.Strided(width=4), adversary(0.2)),
    }
    networks = {}
    for number, (name, (make, method)) in enumerate(recipes.items()):
        network = make()
        torch_initialise(network, generator(number, "small zoo"))
        networks[name] = fitted(network, method, digits, number)
    report1 = build_network("report1-cnn", generator=generator(7, "small zoo"))
    networks["report1-cnn"] = fitted(report1, natural, digits.select(np.arange(200), "first 200"), 7)
    return SmallZoo(networks, defences, digits_test)
