"""Control networks as they are made: what is told before the first, what a cache saves, and what a budget leaves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secure_ai.blue.backdoors import fleet as control
from secure_ai.blue.backdoors import inversion, margin
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.runs.backdoors import cost
from secure_ai.runs.backdoors import fleet as fleets
from secure_ai.runs.backdoors.fleet import Fleet, trained_fleet
from secure_ai.runs.engine import forecast
from secure_ai.runs.engine.measure import Passes


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(margin, "STEPS", 2)
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=2))


def linear(draws: torch.Generator | None = None) -> torch.nn.Module:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    with torch.no_grad():
        for value in network.parameters():
            value.uniform_(-0.03, 0.03, generator=draws)
    return network


def made(digits: Dataset, count: int, **options: Any) -> Fleet:
    parts = (digits.select(part, "part") for part in np.split(np.arange(len(digits)), [300, 400]))
    return trained_fleet(linear, "linear", *parts, classes=10, count=count, seed=0, dtype=torch.float32, **options)


def test_what_will_be_trained_is_told_before_the_first(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    whole = control.control_network

    def watched(*given: Any, **options: Any) -> torch.nn.Module:
        said.append("training")
        return whole(*given, **options)

    def heard(kind: str, data: Mapping[str, Any]) -> None:
        said.append((kind, data["count"], data["seconds"], data["limit_seconds"]))

    def told(done: int, total: int) -> None:
        said.append((done, total))

    monkeypatch.setattr(fleets, "control_network", watched)
    monkeypatch.setattr(fleets, "members_seconds", lambda one, missing, *given, **options: 7.0 * len(missing))
    made(digits, 2, events=heard, progress=told)
    planned = "control_networks_planned"
    assert said == [(planned, 2, 14.0, None), (0, 2), "training", (1, 2), "training", (2, 2)]
    said.clear()
    made(digits, 3, events=heard, progress=told)
    assert said == [(planned, 1, 7.0, None), (2, 3), "training", (3, 3)]  # what lies in the cache takes no time
    said.clear()
    made(digits, 3, events=heard, progress=told)
    assert said == [(3, 3)]


@pytest.mark.parametrize("seconds", [-1.0, 1e6])
def test_short_of_time_the_fleet_says_how_many_of_how_many(digits: Dataset, seconds: float) -> None:
    made(digits, 2)
    limits: list[float] = []
    fleet = made(
        digits, 3, deadline=time.monotonic() + seconds, events=lambda kind, data: limits.append(data["limit_seconds"])
    )
    assert limits[0] == pytest.approx(max(seconds, 0.0), abs=30)
    assert (len(fleet.members), fleet.asked) == ((2, 3) if seconds < 0 else (3, 3))
    assert ("2 of 3" in fleet.source) == (seconds < 0)


def test_the_forecast_is_steps_times_the_time_of_a_step(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "fastest", lambda step, device: 3.0)
    monkeypatch.setattr(cost, "network_seconds", lambda network, shape, dtype: Passes(1.0, 10.0, 100.0))
    target = NetworkTarget(linear(), name="", digest="", input_shape=(1, 28, 28), num_classes=10)
    images = digits.select(np.arange(200), "some")
    seconds = cost.members_seconds(target, [0, 3], digits, images, images, seed=0, largest=500, dtype=torch.float32)
    searches = sum(form.steps for form in inversion.FORMS.values()) * 3.0 / cost.TIMED_STEPS
    driven = 10 * margin.STARTS * margin.STEPS
    recipes = [control.recipe(index, 0, len(digits), 500) for index in (0, 3)]
    learned = sum(recipe.epochs * recipe.images for recipe in recipes)
    assert seconds == 2 * (searches + 11 * driven + 200) + 100 * learned


def test_any_network_is_timed_and_a_slow_one_once_after_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5), torch.nn.Flatten(), torch.nn.Linear(256, 100))
    one = forecast.network_seconds(network, (3, 12, 12), torch.float32)
    assert min(one.forward, one.training) > 0
    now, calls = [0.0], [0]

    def step() -> None:
        calls[0] += 1
        now[0] += 9.0 if calls[0] == 1 else 2.0

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    assert (forecast.fastest(step, torch.device("cpu")), calls[0]) == (2.0, 2)


def test_the_forecast_changes_nothing(digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = made(digits, 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(fleets, "members_seconds", lambda *given, **options: 0.0)
    assert made(digits, 1).members == first.members
