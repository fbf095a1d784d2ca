"""`secure_ai.attacks`: one call an attack, on a module and tensors of the caller's."""

from __future__ import annotations

import inspect
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai import attacks
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import (
    AttackSettingsError,
    BudgetError,
    EmptyDataError,
    LabelError,
    NonFiniteError,
    PairCountError,
    PixelRangeError,
    SecureAIError,
    ShapeError,
    TargetError,
    UsageError,
)
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.catalogue import ATTACKS, entry_named
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.suite.verify import allowed_distance, measured_distance

COMMON = {"net", "x", "y", "norm", "eps", "seed", "target_label", "mean", "std"}
CHEAP: dict[str, dict[str, Any]] = {
    "cw": {"steps": 40, "binary_search_steps": 2, "initial_const": 1.0},
    "hopskipjump": {"query_budget": 200},
    "square": {"query_budget": 50},
    "odi_pgd": {"steps": 3, "restarts": 2},
    "sigma_zero": {"steps": 30},
    "fgsm": {},
    "noise": {"draws": 3},
}
NORM = {"ddn": "l2", "cw": "l2", "deepfool": "l2", "sigma_zero": "l0"}
EPS = {"linf": 0.3, "l2": 2.0, "l0": 20}


class Plain(nn.Module):
    """As users write them: `view`, an in-place activation first, batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(3 * 5 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        logits: Tensor = self.last(self.drop(x.view(x.size(0), -1)))
        return logits


@pytest.fixture
def case() -> tuple[Plain, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        net = Plain()
        x = torch.rand(12, 3, 5, 4)
        with torch.no_grad():
            y = net.eval()(x.clone()).argmax(1)
    return net.train(), x, y


def call(name: str, net: Any, x: Tensor, y: Tensor, **more: Any) -> Tensor:
    norm = NORM.get(name, "linf")
    if name == "transfer":
        more["surrogate"] = net
    settings = CHEAP.get(name, {"steps": 8}) | {"norm": norm, "eps": EPS[norm]} | more
    function: Callable[..., Tensor] = getattr(attacks, name)
    return function(net, x, y, **settings)


def process() -> tuple[Any, ...]:
    arrays = np.random.get_state(legacy=True)  # the caller's own
    numbers = (random.getstate(), arrays[1].tobytes(), arrays[2], torch.get_rng_state().tolist())  # type: ignore[index]
    modes = (torch.is_grad_enabled(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled())
    return torch.get_num_threads(), dict(os.environ), numbers, modes


def own_settings(function: Callable[..., Tensor]) -> dict[str, Any]:
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.name not in COMMON | {"surrogate"}}


def test_every_attack_of_the_catalogue_has_its_function_with_its_settings() -> None:
    entries = {entry.name.replace("-", "_"): entry for entry in ATTACKS}
    assert set(attacks.__all__) == {*entries, "transfer"}
    for name, entry in entries.items():
        function = getattr(attacks, name)
        assert own_settings(function) == dict(entry.settings), name
        assert set(inspect.signature(function).parameters) >= COMMON, name
        first = (inspect.getdoc(function) or "").splitlines()[0]
        stated = set(first.rpartition(". ")[2].strip(".").split(", "))
        assert stated == ({"Every norm"} if len(entry.norms) == 4 else set(entry.norms)), name


def test_types_of_settings_are_those_of_their_defaults() -> None:
    for name in attacks.__all__:
        for key, default in own_settings(getattr(attacks, name)).items():
            assert getattr(attacks, name).__annotations__[key] == type(default).__name__, (name, key)


@pytest.mark.parametrize("name", attacks.__all__)
def test_an_attack_on_a_plain_module_stays_inside_and_leaves_everything_alone(
    name: str, case: tuple[Plain, Tensor, Tensor]
) -> None:
    net, x, y = case
    net.last.weight.requires_grad_(False)
    net.last.bias.grad = torch.ones_like(net.last.bias)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    given, before = x.clone(), process()
    x_adv = call(name, net, x, y)
    assert process() == before
    assert torch.equal(x, given)
    assert net.training
    assert net.drop.training
    assert [p.requires_grad for p in net.parameters()] == [True, True, False, True]
    assert net.last.bias.grad is not None
    assert bool((net.last.bias.grad == 1).all())
    assert net.norm.weight.grad is None
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert (x_adv.shape, x_adv.dtype, x_adv.requires_grad) == (x.shape, x.dtype, False)
    norm = NORM.get(name, "linf")
    entry = entry_named(name.replace("_", "-"))
    assert entry is not None
    if entry.kind == "budget":
        budget = PerturbationBudget(norm, EPS[norm])  # type: ignore[arg-type]
        assert bool((measured_distance(x_adv, x, budget) <= allowed_distance(budget)).all())
    assert bool(((x_adv >= 0) & (x_adv <= 1)).all())
    if name != "noise":
        assert bool((net.eval()(x_adv.clone()).argmax(1) != y).any())


def test_the_examples_are_those_of_a_suite(case: tuple[Plain, Tensor, Tensor]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(60, 4))
    _, x, _ = case
    x = torch.rand(300, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    y = network(x).argmax(1)
    x_adv = attacks.pgd(network, x, y, norm="linf", eps=0.02, steps=3, seed=5)
    target = NetworkTarget(network, name="n", digest="", input_shape=(3, 5, 4), num_classes=4)
    suite = run_suite(target, x, y, budget=PerturbationBudget("linf", 0.02), attacks=parse_attacks("pgd:steps=3"),
                      seed=5, keep_examples=True)  # fmt: skip
    assert suite.x_adv is not None
    assert torch.equal(x_adv, torch.from_numpy(np.array(suite.x_adv)))
    assert torch.equal(x_adv[:256], attacks.pgd(network, x[:256], y[:256], norm="linf", eps=0.02, steps=3, seed=5))
    assert not torch.equal(x_adv, attacks.pgd(network, x, y, norm="linf", eps=0.02, steps=3, seed=6))


def test_a_function_of_tensors_is_attacked_with_its_gradients(case: tuple[Plain, Tensor, Tensor]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(60, 4))
    _, x, _ = case
    y = network(x).argmax(1)
    direct = attacks.pgd(network, x, y, norm="linf", eps=0.1, steps=4)
    assert torch.equal(direct, attacks.pgd(lambda images: network(images), x, y, norm="linf", eps=0.1, steps=4))


def test_normalisation_and_target_label(case: tuple[Plain, Tensor, Tensor]) -> None:
    """On a linear model the sign of the weights is the whole answer (1412.6572, section 3)."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(60, 2))
    x = torch.rand(5, 3, 5, 4, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    y = torch.zeros(5, dtype=torch.int64)
    weight = network.get_parameter("1.weight").detach()
    sign = (weight[1] - weight[0]).sign().view(3, 5, 4)
    args: dict[str, Any] = {"norm": "linf", "eps": "1/10", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    assert torch.allclose(attacks.fgsm(network, x, y, **args), x + 0.1 * sign)
    assert torch.allclose(attacks.fgsm(network, x, y, target_label=1, **args), x + 0.1 * sign)
    assert torch.allclose(attacks.fgsm(network, x, y, target_label=y, **args), x - 0.1 * sign)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype_of_images_or_of_the_module_comes_back(
    dtype: torch.dtype, case: tuple[Plain, Tensor, Tensor]
) -> None:
    net, x, y = case
    assert attacks.pgd(net, x.to(dtype), y, norm="linf", eps=0.1, steps=2).dtype is dtype
    assert attacks.pgd(net.to(dtype), x, y, norm="linf", eps=0.1, steps=2).dtype is torch.float32
    assert net.last.weight.dtype is dtype


def test_a_module_that_raises_is_the_cause(case: tuple[Plain, Tensor, Tensor]) -> None:
    _, x, y = case

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("mine")

    with pytest.raises(TargetError) as raised:
        attacks.fgsm(Broken(), x, y, norm="linf", eps=0.1)
    assert isinstance(raised.value.__cause__, KeyError)


def with_nan(x: Tensor) -> Tensor:
    return x.masked_fill(torch.arange(x.numel()).view_as(x) == 7, torch.nan)


@pytest.mark.parametrize(
    ("change", "error", "hint"),
    [
        (lambda x, y: {"x": with_nan(x)}, NonFiniteError, ""),
        (lambda x, y: {"x": (x - 0.5) / 0.2}, PixelRangeError, "mean="),
        (lambda x, y: {"x": x * 255}, PixelRangeError, "/ 255"),
        (lambda x, y: {"x": (x * 255).to(torch.uint8)}, PixelRangeError, "/ 255"),
        (lambda x, y: {"x": x[0]}, ShapeError, ""),
        (lambda x, y: {"x": x.numpy()}, ShapeError, "from_numpy"),
        (lambda x, y: {"x": x[:0], "y": y[:0]}, EmptyDataError, ""),
        (lambda x, y: {"y": y[:-1]}, PairCountError, ""),
        (lambda x, y: {"y": y + 4}, LabelError, ""),
        (lambda x, y: {"y": y.float()}, LabelError, ""),
        (lambda x, y: {"target_label": 4}, LabelError, ""),
        (lambda x, y: {"target_label": y[:3]}, PairCountError, ""),
        (lambda x, y: {"eps": 8}, BudgetError, "8/255"),
        (lambda x, y: {"norm": "l0", "eps": 3}, AttackSettingsError, ""),
        (lambda x, y: {"norm": "max"}, BudgetError, ""),
        (lambda x, y: {"steps": 0}, AttackSettingsError, ""),
        (lambda x, y: {"steps": 1.5}, AttackSettingsError, ""),
        (lambda x, y: {"seed": -1}, UsageError, ""),
        (lambda x, y: {"mean": (0.1, 0.2)}, UsageError, ""),
        (lambda x, y: {"std": (0.0,)}, UsageError, ""),
        (lambda x, y: {"net": None}, TargetError, ""),
    ],
)
def test_what_cannot_be_used_is_refused(
    change: Callable[[Tensor, Tensor], dict[str, Any]],
    error: type[SecureAIError],
    hint: str,
    case: tuple[Plain, Tensor, Tensor],
) -> None:
    net, x, y = case
    arguments: dict[str, Any] = {"net": net, "x": x, "y": y, "norm": "linf", "eps": 0.1} | change(x, y)
    with pytest.raises(error) as raised:
        attacks.pgd(**arguments)
    assert type(raised.value) is error
    assert hint in raised.value.hint
    assert net.training


FRESH = """
import os, torch
before = torch.get_num_threads(), dict(os.environ), torch.get_rng_state().tolist()
import secure_ai
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5)).train()
state = torch.get_rng_state().tolist()
x, y = torch.full((6, 3, 8, 8), 0.5), torch.arange(6) % 5
x_adv = secure_ai.attacks.pgd(net, x, y, norm="linf", eps=8 / 255, steps=2)
assert x_adv.shape == x.shape and not torch.equal(x_adv, x)
report = secure_ai.attack(net, (x, y), norm="linf", eps=0.1, attack="fgsm")
assert report.robust_accuracy.n == 6 and len(repr(report)) < 2000 and "<table" in report._repr_html_()
assert net.training and torch.is_grad_enabled() and all(p.requires_grad for p in net.parameters())
assert (torch.get_num_threads(), dict(os.environ), torch.get_rng_state().tolist()) == (*before[:2], state)
"""


def test_it_works_in_a_fresh_interpreter() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", FRESH], check=True, timeout=120)
