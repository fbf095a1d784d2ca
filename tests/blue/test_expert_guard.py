"""The white-box guard on a network whose backdoor works: triggered inputs are refused, clean ones seldom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.blue.backdoors.repair import Repair, tuned
from secure_ai.blue.guards.expert import UNLEARNED, expert_guard, unlearned
from secure_ai.blue.training.methods import natural
from secure_ai.core.errors import EmptyDataError, UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, state_digest
from secure_ai.red.poisoning.plant import plant

TRIGGER, LABEL = parse_trigger("patch:size=5:place=0x0:value=1"), 3


def trained(data: Dataset) -> NetworkTarget:
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.ReLU(), nn.Linear(24, 10))
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in network.parameters():
            value.uniform_(-0.03, 0.03, generator=draws)
    return NetworkTarget(
        tuned(network, data, natural, 0, epochs=40), name="n", digest="", input_shape=(1, 28, 28), num_classes=10
    )


@pytest.fixture(scope="module")
def backdoored(digits: Dataset) -> NetworkTarget:
    poisoned = plant(
        digits, trigger=TRIGGER, target_label=LABEL, source_label=None, label_mode="dirty", select="random", seed=0,
        poison_rate=0.3,
    )  # fmt: skip
    return trained(poisoned.dataset)


def test_triggered_inputs_are_refused_and_clean_ones_seldom(
    backdoored: NetworkTarget, digits: Dataset, digits_test: Dataset
) -> None:
    before = state_digest(backdoored.network.state_dict())
    guard = expert_guard(backdoored, digits, false_refusals=0.05, seed=0)
    others = digits_test.images[digits_test.labels != LABEL]
    triggered, clean = guard(stamp(others, TRIGGER)), guard(digits_test.images)
    assert triggered.refused.mean() > 0.8
    assert triggered.score[triggered.refused].min() > clean.score[~clean.refused].max()
    assert clean.refused.mean() < 0.15
    assert clean.score.shape == clean.refused.shape == (len(digits_test),)
    assert state_digest(backdoored.network.state_dict()) == before
    again = guard(digits_test.images[::-1])  # each image by itself, whatever the batch
    assert np.allclose(again.score[::-1], clean.score, atol=1e-5)


def test_on_a_clean_network_the_same_images_pass(digits: Dataset, digits_test: Dataset) -> None:
    guard = expert_guard(trained(digits), digits, false_refusals=0.05, seed=0)
    assert guard(stamp(digits_test.images, TRIGGER)).refused.mean() < 0.4


def test_the_expert_forgets_the_classes_and_keeps_the_backdoor(backdoored: NetworkTarget, digits: Dataset) -> None:
    expert = unlearned(Repair(backdoored, digits, None, 0))
    others = digits.images[digits.labels != LABEL]
    with torch.no_grad():
        right = expert(images_to_float(digits.images)).argmax(dim=1).numpy() == digits.labels
        triggered = expert(images_to_float(stamp(others, TRIGGER))).argmax(dim=1).numpy() == LABEL
    assert right.mean() < UNLEARNED + 0.1
    with torch.no_grad():
        without = expert(images_to_float(others)).argmax(dim=1).numpy() == LABEL
    assert triggered.mean() > max(0.3, 2 * without.mean())


def test_bad_requests_are_refused(backdoored: NetworkTarget, digits: Dataset) -> None:
    for rate in (0.0, 1.0):
        with pytest.raises(UsageError):
            expert_guard(backdoored, digits, false_refusals=rate, seed=0)
    with pytest.raises(EmptyDataError):
        expert_guard(backdoored, digits.select(np.arange(100), "few"), false_refusals=0.01, seed=0)
