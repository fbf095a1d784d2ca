"""Every tensor is made on its target's device: tried without a second device, by refusing calls that name none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

import secure_ai
from secure_ai import attacks
from secure_ai.blue.backdoors.detectors import detect
from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.compute import choose_device, configure, exact_kernels, lower_precision
from secure_ai.core.errors import EnvironmentFailedError, UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.catalogue import ATTACKS
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.health import gradient_health
from secure_ai.red.evasion.trust.probes.diagnose import diagnose
from secure_ai.runs.stages.hardening_methods import METHODS

CHEAP = {
    "cw": "cw:steps=6:binary_search_steps=2",
    "hopskipjump": "hopskipjump:query_budget=150",
    "square": "square:query_budget=20",
    "odi-pgd": "odi-pgd:steps=2:restarts=1",
    "fgsm": "fgsm",
    "noise": "noise",
}
EPS: dict[Norm, float] = {"linf": 0.1, "l2": 0.5, "l1": 2.0, "l0": 4}
CASES = [(entry.name, norm) for entry in ATTACKS for norm in entry.norms]


class NamesItsDevice(TorchFunctionMode):
    """Refuses `torch.zeros(3)` and the like: on a GPU that would be a tensor in the wrong place."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function in _device_constructors() and (kwargs or {}).get("device") is None:
            raise AssertionError(f"{getattr(function, '__name__', function)} names no device")
        return function(*args, **(kwargs or {}))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(48, 12), nn.Linear(12, 4)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(x))
        return logits


@pytest.fixture
def case() -> tuple[NetworkTarget, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        net, x = Small(), torch.rand(40, 3, 4, 4)
    y = net(x).argmax(1)
    y[:3] = (y[:3] + 1) % 4
    return NetworkTarget(net, name="n", digest="", input_shape=(3, 4, 4), num_classes=4), x, y


def test_the_mode_sees_a_call_that_names_no_device() -> None:
    with NamesItsDevice(), pytest.raises(AssertionError, match="zeros"):
        torch.zeros(3)
    with NamesItsDevice():
        torch.zeros(3, device="cpu")


@pytest.mark.parametrize(("name", "norm"), CASES)
@pytest.mark.parametrize("target_label", [None, 1])
def test_an_attack_names_its_device(
    name: str, norm: Norm, target_label: int | None, case: tuple[NetworkTarget, Tensor, Tensor]
) -> None:
    target, x, y = case
    settings = CHEAP.get(name, f"{name}:steps=4" if name != "deepfool" else "deepfool:steps=4")
    with NamesItsDevice():
        result = run_suite(
            target, x, y, budget=PerturbationBudget(norm, EPS[norm]), attacks=parse_attacks(settings, norm), seed=0,
            target_label=target_label, keep_examples=True,
        )  # fmt: skip
    assert result.complete


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_a_probe_names_its_device(norm: Norm, case: tuple[NetworkTarget, Tensor, Tensor]) -> None:
    target, x, y = case
    plans = parse_attacks("pgd:steps=3" if norm != "l0" else "fgsm", norm)
    with NamesItsDevice():
        checks = diagnose(target, x, y, PerturbationBudget(norm, EPS[norm] / 4), 0, attacks=plans,
                          robust=np.arange(40) % 2 == 0)  # fmt: skip
        gradient_health(target, x, y)
    assert len(checks) > 10


def test_one_call_names_its_device(case: tuple[NetworkTarget, Tensor, Tensor]) -> None:
    target, x, y = case
    with NamesItsDevice():
        attacks.pgd(target.network, x, y, norm="linf", eps=0.1, steps=2, mean=(0.5,), std=(0.2,), target_label=1)
        attacks.transfer(target.network, x, y, norm="linf", eps=0.1, steps=2, surrogate=target.network)
        report = secure_ai.attack(target.network, (x, y), norm="linf", eps=0.1, attack="fgsm")
    assert report.result.complete


@pytest.fixture
def trainable() -> tuple[nn.Module, Dataset]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(2)
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(8, 3))
    x = np.random.default_rng(0).random((60, 1, 4, 4), dtype=np.float32)
    return net, Dataset(x, np.arange(60) % 3, "small", 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_training_names_its_device(method: str, trainable: tuple[nn.Module, Dataset]) -> None:
    net, data = trainable
    with NamesItsDevice():
        made = secure_ai.hardened(net, data, norm=METHODS[method].norms[0], eps=0.05, method=method, epochs=1,
                                  batch_size=27)  # fmt: skip
    assert made.facts["steps"] == 2


def test_certificates_and_detectors_name_their_device(trainable: tuple[nn.Module, Dataset]) -> None:
    net, data = trainable
    few = data.select(np.arange(4), "few")
    with NamesItsDevice():
        bounds = secure_ai.certify(net, few, norm="linf", eps=0.01, attack="fgsm")
        smoothed = secure_ai.certify(net, few, norm="l2", eps=0.01, method="smoothing", sigma=0.1, samples=100)
        target = NetworkTarget(net.eval(), name="n", digest="", input_shape=(1, 4, 4), num_classes=3)
        found = detect(target, data.images, data.labels, 0)
    assert (bounds.certified.n, smoothed.certified.n) == (4, 4)
    assert {name: len(one.values) for name, one in found.items()} == {"margin": 3, "mask": 3, "additive": 3, "pair": 6}


@pytest.mark.parametrize("method", ["fast", "gaussian"])
def test_a_training_leaves_the_random_state_as_it_was(method: str, trainable: tuple[nn.Module, Dataset]) -> None:
    net, data = trainable
    before = torch.random.get_rng_state()
    first, second = (
        secure_ai.hardened(net, data, norm=METHODS[method].norms[0], eps=0.05, method=method, epochs=1, batch_size=27)
        for _ in range(2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.digest == second.digest  # with dropout, which draws from the global generator


def test_the_device_is_chosen_in_one_place() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert configure("float32", "cpu").as_json()["device"] == "cpu"
    with pytest.raises(UsageError):
        choose_device("tpu")  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_says_so() -> None:
    with pytest.raises(EnvironmentFailedError) as raised:
        choose_device("cuda")
    assert raised.value.hint == "--device cpu"


def test_exact_kernels_are_undone() -> None:
    def settings() -> tuple[bool, ...]:
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        return cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32

    before = settings()
    with exact_kernels(torch.device("cuda")):  # settings only: no GPU is needed for them
        assert settings() == (True, False, False, False)
    assert settings() == before
    with exact_kernels(torch.device("cpu")):
        assert settings() == before


def test_lower_precision_is_of_the_device_that_is_named() -> None:
    with lower_precision(torch.bfloat16, torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")
