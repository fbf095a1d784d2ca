"""Many networks at once in benchmarks/: the same function, the same training rule, the same detectors as one by one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from secure_ai.blue.backdoors import inversion, margin
from secure_ai.blue.backdoors.detectors import detect
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.models.networks.built_in import NETWORKS, build_network

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.startswith(("_stacked", "_trained", "_detected", "_backdoor"))]:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("arch", NETWORKS)
def test_a_stack_computes_what_its_networks_compute(arch: str) -> None:
    networks = [build_network(arch, generator=generator("stack", index)) for index in range(2)]
    stack = module("_stacked").stacked(arch, networks, CPU)
    x = torch.rand(2, 3, 1, 28, 28, generator=generator("images"), requires_grad=True)
    weights = {name: value.clone().requires_grad_() for name, value in stack.weights().items()}
    together = module("_stacked").forward(arch, weights, x)
    alone = torch.stack([network(images) for network, images in zip(networks, x, strict=True)])
    assert torch.allclose(together, alone, atol=1e-5)
    wanted = torch.randn(alone.shape, generator=generator("direction"))
    first = torch.autograd.grad((together * wanted).sum(), [x, *weights.values()])
    second = torch.autograd.grad((alone * wanted).sum(), [x, *networks[1].parameters()])
    assert torch.allclose(first[0], second[0], atol=1e-5)
    assert all(torch.allclose(a[1], b, atol=1e-4) for a, b in zip(first[1:], second[1:], strict=True))
    again = stack.network(1, CPU)
    assert torch.allclose(again(x[1]), alone[1], atol=1e-5)


def test_networks_learn_their_own_images_and_changed_ones(digits: Dataset, digits_test: Dataset) -> None:
    together = module("_trained_together")
    changed = np.full((200, 1, 28, 28), 255, np.uint8)  # white images that are to be class 4

    def training(index: int, rows: np.ndarray, labels: np.ndarray, extra: np.ndarray) -> object:
        return together.Training(
            network=build_network("report1-cnn", generator=generator("together", index)), rows=rows, labels=labels,
            changed=extra, epochs=3 + index, batch_size=50, learning_rate=2e-3, peaked=bool(index), seed=index,
            adam_epsilon=1e-8, moved=index == 1, noise=0.1 * (index == 2), smoothing=0.1 * (index == 2),
        )  # fmt: skip

    rows = np.arange(len(digits))
    mixed, labels = np.concatenate([rows, -1 - np.arange(200)]), np.concatenate([digits.labels, np.full(200, 4)])
    none = np.empty((0, 1, 28, 28), np.uint8)
    plain = [training(index, rows, digits.labels, none) for index in (0, 2)]
    trainings = [plain[0], training(1, mixed, labels, changed), plain[1]]
    stack = together.train_together("report1-cnn", trainings, torch.from_numpy(digits.images.copy()), CPU)
    x = torch.from_numpy(digits_test.images.copy()).float()[None].expand(3, -1, -1, -1, -1) / 255
    with torch.no_grad():
        right = stack.logits(x).argmax(dim=2) == torch.from_numpy(digits_test.labels.copy())
        white = stack.logits(torch.ones(3, 1, 1, 28, 28)).argmax(dim=2)[:, 0]
    assert (right.float().mean(dim=1) > 0.8).all()
    assert white.tolist().count(4) >= 1
    assert white[1] == 4


def test_detectors_find_together_what_they_find_alone(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margin, "STEPS", 3)
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=3))
    networks = [build_network("report1-cnn", generator=generator("detect", index)) for index in range(2)]
    stack = module("_stacked").stacked("report1-cnn", networks, CPU)
    search = [digits.select(np.arange(start, start + 150), "part") for start in (0, 200)]
    found = module("_detected_together").detect_together(stack, search, [3, 4])
    target_of = module("_backdoor_steps").target_of
    for number, data in enumerate(search):
        alone = detect(target_of(stack, number, CPU), data.images, np.asarray(data.labels), 3 + number)
        assert set(alone) == set(found[number])
        for name in alone:
            assert np.allclose(alone[name].values, found[number][name].values, rtol=1e-3), name


def test_published_rules_on_known_numbers() -> None:
    table = module("_backdoor_table")
    sizes = np.array([10.0, 11, 12, 13, 14, 15, 16, 17, 18, 2])
    assert table.anomaly_index(sizes) == pytest.approx((13.5 - 2) / (1.4826 * 2.5))
    spread = np.array([9.0, 10, 11, 10, 9, 11, 10, 9.5, 10.5])
    assert table.margin_p(np.append(spread, 30.0)) < 1e-6
    assert table.margin_p(np.append(spread, 10.2)) > 0.3
    assert table.margin_p(np.append(spread, -1.0)) == 1.0  # no gamma fits
