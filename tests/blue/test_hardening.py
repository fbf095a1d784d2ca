from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.blue.training import hardening
from secure_ai.blue.training.hardening import (
    Checked,
    HardeningPlan,
    OptimizerPlan,
    affordable_steps,
    collapsed,
    harden,
)
from secure_ai.blue.training.hardening_state import Checks, HardeningState, hardening_state
from secure_ai.blue.training.methods import Batch, BatchLoss, natural
from secure_ai.blue.training.schedules import constant, cosine, piecewise, ramp
from secure_ai.core.errors import EmptyDataError, NonFiniteError, SecureAIError, StateMismatchError, UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.files.safetensors import safetensors_bytes

KEY = "request"


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 10)
    )


PLAN = HardeningPlan(
    steps=18, batch_size=64, rate=constant(1e-2), optimizer=OptimizerPlan(name="adam"), seed=3, check_every=5,
    average=0.5, average_from=0.2, clip=10.0, dtype=torch.float32, replicas=1, patience=0,
)  # fmt: skip


@dataclass
class Memory:
    """A checkpoint that goes through bytes, as a file would, and may stop the training as a kill would."""

    content: bytes | None = None
    stop_at: int | None = None

    def load(self) -> HardeningState | None:
        return hardening_state(self.content, "memory")[0] if self.content else None

    def save(self, state: HardeningState) -> None:
        self.content = state.to_bytes(KEY)
        if state.step == self.stop_at:
            raise KeyboardInterrupt


def rising(network: nn.Module) -> Checked:
    """A check that finds every network better than the last: the same for equal weights."""
    total = sum(float(p.detach().double().sum()) for p in network.parameters())
    return Checked(1.0, 0.5, 0.5 + math.sin(total) / 2)


def same(first: HardeningState, second: HardeningState) -> bool:
    tensors = [
        torch.equal(value, second.tensors[group][name])
        for group, values in first.tensors.items()
        for name, value in values.items()
    ]
    return all(tensors) and first.checks.robust == second.checks.robust and first.checks.loss == second.checks.loss


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("stop_at", [5, 15])
def test_resuming_equals_not_stopping(digits: Dataset, optimizer: str, stop_at: int) -> None:
    """With batch normalisation, dropout, averaged weights and either optimizer; stopped within an epoch."""
    plan = replace(PLAN, optimizer=OptimizerPlan(name=optimizer))  # type: ignore[arg-type]  # from the parameters
    whole = harden(network(), digits, method=natural, plan=plan, check=rising)
    memory = Memory(stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        harden(network(), digits, method=natural, plan=plan, check=rising, checkpoint=memory)
    memory.stop_at = None
    other = network()
    with torch.no_grad():
        other.get_parameter("5.weight").zero_()
    resumed = harden(other, digits, method=natural, plan=plan, check=rising, checkpoint=memory)
    assert same(whole, resumed)
    assert torch.equal(other.get_parameter("5.weight"), whole.tensors["best"]["5.weight"])


def test_global_randomness_is_neither_used_nor_touched(digits: Dataset) -> None:
    first_network = network()
    before = torch.random.get_rng_state()
    first = harden(first_network, digits, method=natural, plan=PLAN, check=rising)
    assert torch.equal(before, torch.random.get_rng_state())
    other = network()
    torch.manual_seed(99)
    assert same(first, harden(other, digits, method=natural, plan=PLAN, check=rising))
    assert not same(first, harden(network(), digits, method=natural, plan=replace(PLAN, seed=4), check=rising))


def test_the_weights_of_the_best_check_are_kept(digits: Dataset) -> None:
    found = iter([0.2, 0.9, 0.4, 0.9])
    seen: list[dict[str, torch.Tensor]] = []

    def check(judged: nn.Module) -> Checked:
        seen.append({name: value.clone() for name, value in judged.state_dict().items()})
        return Checked(1.0, 0.0, next(found))

    trained = network()
    state = harden(trained, digits, method=natural, plan=PLAN, check=check)
    assert state.checks.robust == [0.2, 0.9, 0.4, 0.9]
    assert state.checks.step == [5, 10, 15, 18]
    assert all(torch.equal(value, seen[1][name]) for name, value in trained.state_dict().items())


def test_patience_stops_early(digits: Dataset) -> None:
    found = iter([0.5, 0.4, 0.3, 0.9])
    plan = replace(PLAN, patience=2)
    state = harden(network(), digits, method=natural, plan=plan, check=lambda n: Checked(1, 0, next(found)))
    assert state.checks.step == [5, 10, 15]
    assert (state.step, state.steps) == (15, 18)


def test_a_method_sees_where_the_training_stands(digits: Dataset) -> None:
    seen: list[tuple[int, int, float]] = []

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        seen.append((batch.step, batch.steps, batch.epoch))
        return natural(network, batch)

    harden(network(), digits, method=method, plan=PLAN, check=rising)
    assert [step for step, _, _ in seen] == list(range(18))
    assert {steps for _, steps, _ in seen} == {18}
    assert seen[9][2] == pytest.approx(9 / (600 // 64))


def test_the_guard_rolls_back_a_planted_collapse_and_switches(digits: Dataset) -> None:
    used: list[str] = []

    def named(name: str, network: nn.Module, batch: Batch) -> BatchLoss:
        used.append(name)
        return natural(network, batch)

    found = iter([Checked(1, 0.6, 0.55), Checked(1, 0.95, 0.1), Checked(1, 0.6, 0.58), Checked(1, 0.99, 0.0)])
    trained = network()
    memory = Memory()
    state = harden(
        trained, digits, plan=PLAN, check=lambda n: next(found), checkpoint=memory,
        method=lambda n, b: named("one", n, b), fallback=lambda n, b: named("many", n, b),
    )  # fmt: skip
    assert state.checks.rolled_back == [10]  # and not again at the last check: several steps are not guarded
    assert used == ["one"] * 10 + ["many"] * 8
    assert state.checks.robust.index(0.58) == 2
    assert torch.equal(trained.get_parameter("5.weight"), state.tensors["best"]["5.weight"])


@pytest.mark.parametrize(("one_step", "rolled_back"), [(0.6, []), (0.95, [10])])
def test_while_eps_grows_the_guard_judges_one_step_at_the_eps_of_the_step(
    digits: Dataset, one_step: float, rolled_back: list[int]
) -> None:
    """At the final eps one step overstates, and robust accuracy falls: neither counts yet."""
    found = iter([Checked(1, 0.9, 0.3), Checked(1, 0.9, 0.1), Checked(1, 0.6, 0.55), Checked(1, 0.6, 0.55)])
    asked: list[tuple[int, int]] = []

    def guard(judged: nn.Module, step: int, steps: int) -> Checked | None:
        asked.append((step, steps))
        return Checked(1, one_step, 0.55) if step < 12 else None

    state = harden(
        network(), digits, plan=PLAN, check=lambda n: next(found), guard=guard, method=natural, fallback=natural
    )
    assert state.checks.rolled_back == rolled_back
    assert asked[0] == (9, 18)


ROLLED_BACK = [Checked(1, 0.5, 0.5), Checked(1, 0.95, 0.7), Checked(1, 0.62, 0.6), Checked(1, 0.66, 0.65)]


@pytest.mark.parametrize("stop_at", [None, 10, 15])
def test_a_check_that_was_rolled_back_is_neither_kept_nor_the_one_to_beat(digits: Dataset, stop_at: int | None) -> None:
    """The second check overstates, and its weights are gone; stopped after it or after the third, likewise."""
    seen: list[dict[str, torch.Tensor]] = []

    def check(judged: nn.Module) -> Checked:
        seen.append({name: value.clone() for name, value in judged.state_dict().items()})
        return ROLLED_BACK[len(seen) - 1]

    def hardened(network: nn.Module) -> HardeningState:
        return harden(network, digits, plan=PLAN, check=check, checkpoint=memory, method=natural, fallback=natural)

    memory = Memory(stop_at=stop_at)
    if stop_at:
        with pytest.raises(KeyboardInterrupt):
            hardened(network())
        memory.stop_at = None
    trained = network()
    checks = hardened(trained).checks
    assert checks.rolled_back == [10]
    assert (checks.chosen, checks.best) == (3, 0.65)
    assert all(torch.equal(value, seen[3][name]) for name, value in trained.state_dict().items())


def test_a_check_that_was_rolled_back_counts_against_patience(digits: Dataset) -> None:
    found = iter(ROLLED_BACK)
    plan = replace(PLAN, patience=1)
    state = harden(network(), digits, plan=plan, check=lambda n: next(found), method=natural, fallback=natural)
    assert (state.checks.step, state.checks.chosen) == ([5, 10], 0)


def test_without_a_collapse_single_steps_go_on(digits: Dataset) -> None:
    state = harden(
        network(), digits, plan=PLAN, check=lambda n: Checked(1, 0.6, 0.55), method=natural, fallback=natural
    )
    assert state.checks.rolled_back == []


@pytest.mark.parametrize(
    ("best", "now", "expected"),
    [
        (0.6, Checked(1, 0.62, 0.5), False),
        (0.6, Checked(1, 0.5, 0.44), True),  # it fell
        (0.2, Checked(1, 0.9, 0.3), True),  # one step no longer fools it, several do
        (0.0, Checked(1, 0.1, 0.0), False),
    ],
)
def test_collapsed(best: float, now: Checked, expected: bool) -> None:
    assert collapsed(best, now) is expected


def test_a_diverging_loss_keeps_the_last_good_weights_and_says_so(digits: Dataset) -> None:
    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        result = natural(network, batch)
        return result._replace(loss=result.loss * (math.nan if batch.step == 12 else 1.0))

    state = harden(network(), digits, method=method, plan=PLAN, check=rising)
    assert state.checks.diverged == [13]
    assert (state.step, state.steps) == (12, 18)
    assert state.checks.step == [5, 10]
    assert all(bool(value.isfinite().all()) for value in state.tensors["best"].values())
    with pytest.raises(NonFiniteError):
        harden(network(), digits, method=method, plan=replace(PLAN, check_every=15), check=rising)


def test_what_cannot_be_trained_is_refused(digits: Dataset) -> None:
    frozen = network().requires_grad_(False)
    with pytest.raises(UsageError):
        harden(frozen, digits, method=natural, plan=PLAN, check=rising)
    with pytest.raises(EmptyDataError):
        harden(network(), digits.select(np.arange(63), ""), method=natural, plan=PLAN, check=rising)


def test_the_number_of_steps_follows_the_time(digits: Dataset) -> None:
    with pytest.raises(UsageError) as refused:
        affordable_steps(network(), digits, natural, PLAN, 1e-6, lambda network: 0.0)
    assert refused.value.where == "--time-budget"


def test_the_speed_of_the_first_steps_decides(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second a step: after 10 % of 100 s, 21 steps are done, and 89.5 s are left for 179."""
    now, positions = [0.0], []

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        now[0] += 0.5
        positions.append(batch.step)
        return natural(network, batch)

    monkeypatch.setattr(hardening, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    mine = network()
    before = mine.get_parameter("5.weight").detach().clone()
    plan = replace(PLAN, steps=1000)
    assert affordable_steps(mine, digits, method, plan, 100, lambda network: 0.0) == 179
    assert len(positions) == 21
    assert min(positions) < 100
    assert max(positions) > 900  # from all over the schedule
    assert torch.equal(mine.get_parameter("5.weight"), before)
    assert affordable_steps(mine, digits, method, replace(plan, steps=50), 100, lambda network: 0.0) == 50


def test_checks_are_counted_in_the_time(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second a step, and a second the check that is timed: 88.5 s are left, for 125 steps and 25 checks."""
    now = [0.0]

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        now[0] += 0.5
        return natural(network, batch)

    def check_seconds(network: nn.Module) -> float:
        now[0] += 1.0
        return 1.0

    monkeypatch.setattr(hardening, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    steps = affordable_steps(network(), digits, method, replace(PLAN, steps=1000), 100, check_seconds)
    assert (steps, math.ceil(steps / PLAN.check_every)) == (125, 25)


def test_the_time_of_each_check_is_kept(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def check(network: nn.Module) -> Checked:
        now[0] += 3.0
        return rising(network)

    monkeypatch.setattr(hardening, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    checks = harden(network(), digits, method=natural, plan=PLAN, check=check).checks
    assert checks.check_seconds == [3.0] * 4
    assert checks.seconds == [0.0] * 4


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_a_state_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(SecureAIError):
        hardening_state(content, "file")


def test_a_state_of_another_kind_is_refused() -> None:
    with pytest.raises(StateMismatchError):
        hardening_state(safetensors_bytes({"network.a": np.zeros(1)}, {"key": "a", "step": "1", "steps": "x"}), "file")


@pytest.mark.parametrize("chosen", [-1, 1])
def test_a_state_without_the_check_that_it_keeps_is_refused(chosen: int) -> None:
    state = HardeningState({"network": {"a": torch.zeros(1)}}, 5, 18, Checks(step=[5], robust=[0.5], chosen=0))
    assert hardening_state(state.to_bytes(KEY), "file")[0].checks == state.checks
    state.checks.chosen = chosen
    with pytest.raises(StateMismatchError):
        hardening_state(state.to_bytes(KEY), "file")


def test_schedules() -> None:
    assert [ramp(0.3, 0.5)(step, 8) for step in range(6)] == pytest.approx([0, 0.075, 0.15, 0.225, 0.3, 0.3])
    assert ramp(0.3, 0.0)(0, 8) == 0.3
    assert ramp(0.3, 1.0, start=1.0)(5, 10) == pytest.approx(0.65)
    assert [piecewise((0.0, 3), (0.4, 6))(step, 10) for step in (0, 3, 4, 9)] == [3, 3, 6, 6]
    assert [cosine(2.0)(step, 4) for step in (0, 2, 4)] == pytest.approx([2.0, 1.0, 0.0])
