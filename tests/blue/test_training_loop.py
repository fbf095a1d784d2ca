from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Batch, BatchLoss, half_replaced, natural, paired
from secure_ai.blue.training.schedules import constant, triangular
from secure_ai.blue.training.state import TrainingState, state_from_bytes
from secure_ai.core.errors import EmptyDataError, NonFiniteError, StateMismatchError
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(96, 10)
    )


def plan(epochs: int = 2, **changes: object) -> TrainingPlan:
    settings = {
        "epochs": epochs,
        "batch_size": 64,
        "schedule": constant(1e-2),
        "seed": 3,
        "adam_epsilon": 1e-8,
        "dtype": torch.float32,
        "replicas": 1,
    }
    return TrainingPlan(**(settings | changes))  # type: ignore[arg-type]  # a table of settings


def same(first: TrainingState, second: TrainingState) -> bool:
    return (
        all(torch.equal(value, second.network[name]) for name, value in first.network.items())
        and all(torch.equal(value, second.optimizer[name]) for name, value in first.optimizer.items())
        and first.history["loss"] == second.history["loss"]
    )


@dataclass
class Memory:
    """A checkpoint that goes through bytes, as a file would."""

    content: bytes | None = None
    stop_after: int | None = None

    def load(self) -> TrainingState | None:
        return state_from_bytes(self.content, "memory") if self.content else None

    def save(self, state: TrainingState) -> None:
        self.content = state.to_bytes()
        if state.epochs_done == self.stop_after:
            raise KeyboardInterrupt


def test_learns_what_can_be_learnt(digits: Dataset, digits_test: Dataset) -> None:
    state = train(small_network(), digits, method=natural, plan=plan(8), validation=digits_test)
    assert state.history["validation_accuracy"][-1] == 1.0
    assert state.history["loss"][-1] < 0.2 < state.history["loss"][0]
    assert len(state.history["loss"]) == 8


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_resuming_equals_not_stopping(digits: Dataset, stop_after: int) -> None:
    whole = train(small_network(), digits, method=natural, plan=plan(4))
    memory = Memory(stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        train(small_network(), digits, method=natural, plan=plan(4), checkpoint=memory)
    memory.stop_after = None
    resumed = train(small_network(seed=99), digits, method=natural, plan=plan(4), checkpoint=memory)
    assert same(whole, resumed)


def test_the_same_seed_gives_the_same_network_and_another_does_not(digits: Dataset) -> None:
    first = train(small_network(), digits, method=natural, plan=plan(1))
    assert same(first, train(small_network(), digits, method=natural, plan=plan(1)))
    assert not same(first, train(small_network(), digits, method=natural, plan=plan(1, seed=4)))


def test_global_randomness_is_neither_used_nor_touched(digits: Dataset) -> None:
    network = small_network()
    before = torch.random.get_rng_state()
    first = train(network, digits, method=natural, plan=plan(1))
    assert torch.equal(before, torch.random.get_rng_state())
    other = small_network()
    torch.manual_seed(12345)
    assert same(first, train(other, digits, method=natural, plan=plan(1)))


def test_adam_goes_on_from_a_saved_state(digits: Dataset) -> None:
    """Two epochs at once equal one epoch and, from its weights and moments, the next with the second epoch's draws."""
    network = small_network()
    first = train(network, digits, method=natural, plan=plan(1))
    with_moments = train(network, digits, method=natural, plan=plan(1), optimizer_state=first.optimizer)
    fresh = small_network()
    fresh.load_state_dict(first.network)
    without = train(fresh, digits, method=natural, plan=plan(1))
    assert float(with_moments.optimizer["0.step"]) == 2 * math.ceil(600 / 64)
    assert float(without.optimizer["0.step"]) == math.ceil(600 / 64)
    assert not same(with_moments, without)


def test_moments_of_another_network_are_refused(digits: Dataset) -> None:
    state = train(small_network(), digits, method=natural, plan=plan(1))
    with pytest.raises(StateMismatchError):
        train(
            nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
            digits,
            method=natural,
            plan=plan(1),
            optimizer_state=state.optimizer,
        )


def test_every_sample_is_seen_once_an_epoch(digits: Dataset) -> None:
    seen: list[int] = []

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        seen.extend(batch.indices.tolist())
        assert torch.equal(batch.y, torch.from_numpy(np.array(digits.labels))[batch.indices])
        return natural(network, batch)

    train(small_network(), digits, method=method, plan=plan(2))
    assert sorted(seen[:600]) == list(range(600))
    assert sorted(seen[600:]) == list(range(600))
    assert seen[:600] != seen[600:]


def test_no_data_and_a_loss_that_explodes_are_errors(digits: Dataset) -> None:
    with pytest.raises(NonFiniteError):
        train(
            small_network(),
            digits,
            method=lambda n, b: BatchLoss(natural(n, b).loss * math.nan, torch.tensor(0), 1),
            plan=plan(1),
        )
    with pytest.raises(EmptyDataError):
        train(small_network(), digits.select(np.arange(0), ""), method=natural, plan=plan(1))


def ones_adversary(network: nn.Module, batch: Batch) -> Tensor:
    return torch.full_like(batch.x, 0.5)


@pytest.mark.parametrize(("size", "ratio", "replaced"), [(10, 0.5, 5), (9, 0.5, 5), (8, 1.0, 8), (8, 0.01, 1)])
def test_half_replaced_replaces_that_share_and_keeps_labels(size: int, ratio: float, replaced: int) -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return torch.zeros(len(x), 10)

    batch = Batch(torch.zeros(size, 1, 4, 4), torch.arange(size) % 10, torch.arange(size), generator(0))
    result = half_replaced(ones_adversary, ratio)(Spy(), batch)
    assert int((seen[0] == 0.5).all(dim=(1, 2, 3)).sum()) == replaced
    assert result.n == size
    assert int(result.correct) == int((batch.y == 0).sum())
    assert bool((batch.x == 0).all())


def test_paired_puts_clean_and_adversarial_in_one_batch() -> None:
    batch = Batch(torch.zeros(6, 1, 4, 4), torch.arange(6), torch.arange(6), generator(0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    result = paired(ones_adversary)(network, batch)
    x = torch.cat([batch.x, ones_adversary(network, batch)])
    expected = nn.functional.cross_entropy(network(x), batch.y.repeat(2))
    assert result.n == 12
    assert torch.equal(result.loss, expected)


def test_schedules() -> None:
    assert constant(0.1)(7, 10) == 0.1
    rates = [triangular(1.0)(step, 9) for step in range(9)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2])
