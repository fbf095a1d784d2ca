"""Oracle: the gradient of one pass over the whole batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Batch, BatchLoss, cross_entropy_loss, half_replaced, natural, paired
from secure_ai.blue.training.replicas import Replicas
from secure_ai.blue.training.schedules import constant
from secure_ai.blue.training.state import TrainingState
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(96, 10)
    )  # fmt: skip


def batch(n: int) -> Batch:
    draws = generator(1, "batch", n)
    x, y = torch.rand(n, 1, 28, 28, generator=draws), torch.randint(0, 10, (n,), generator=draws)
    return Batch(x, y, torch.arange(n), draws)


def trained(digits: Dataset, *, replicas: int = 2, method: object = natural) -> TrainingState:
    plan = TrainingPlan(
        epochs=2, batch_size=64, schedule=constant(1e-2), seed=3, adam_epsilon=1e-8, dtype=torch.float32,
        replicas=replicas,
    )  # fmt: skip
    return train(network(), digits, method=method, plan=plan)  # type: ignore[arg-type]


def doubled(network: nn.Module, batch: Batch) -> Tensor:
    """An adversary for tests: brighter by what its own generator draws."""
    return (batch.x + 0.1 * torch.rand(batch.x.shape, generator=batch.generator)).clamp(0, 1)


def equal(first: TrainingState, second: TrainingState) -> bool:
    return all(torch.equal(value, second.network[name]) for name, value in first.network.items())


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_gradient_is_that_of_the_whole_batch(count: int, n: int) -> None:
    whole, split = network(), network()
    given = batch(n)
    expected = cross_entropy_loss(whole.train(), given.x, given.y)
    expected.loss.backward()
    replicas = Replicas(split, count)
    with replicas.working():
        found = replicas.backward(natural, given, [generator(k) for k in range(count)], torch.float32)
    for mine, theirs in zip(split.parameters(), whole.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found.loss, expected.loss.detach())
    assert (int(found.correct), found.n) == (int(expected.correct), n)


def test_two_steps_use_the_new_weights_in_every_replica() -> None:
    """A replica that kept the old weights would give another second gradient."""
    given, split, whole = batch(64), network(), network()
    replicas = Replicas(split, 2)
    for _ in range(2):
        cross_entropy_loss(whole.train(), given.x, given.y).loss.backward()
        with replicas.working():
            replicas.backward(natural, given, [generator(0), generator(1)], torch.float32)
        for one in (whole, split):
            torch.optim.SGD(one.parameters(), lr=1.0).step()
            one.zero_grad()
    for mine, theirs in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [natural, paired(doubled), half_replaced(doubled)], ids=["natural", "pair", "half"])
def test_the_same_seed_gives_the_same_bits_whoever_is_faster(digits: Dataset, method: object) -> None:
    first = trained(digits, method=method)
    assert equal(first, trained(digits, method=method))
    torch.set_num_threads(1)
    assert equal(first, trained(digits, method=method))


def test_the_number_of_replicas_decides_the_bits(digits: Dataset) -> None:
    method = half_replaced(doubled)
    assert not equal(trained(digits, method=method), trained(digits, replicas=1, method=method))


def test_parts_run_side_by_side_on_one_thread_each() -> None:
    meeting, seen = threading.Barrier(2, timeout=30), []

    def method(network: nn.Module, part: Batch) -> BatchLoss:
        meeting.wait()  # broken, and an error, unless both parts are in here at once
        seen.append((len(part.y), torch.get_num_threads()))
        return natural(network, part)

    replicas = Replicas(network(), 2)
    with replicas.working():
        replicas.backward(method, batch(65), [generator(0), generator(1)], torch.float32)
    assert sorted(seen) == [(32, 1), (33, 1)]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_part_raises_is_raised_and_the_threads_are_put_back(error: type[BaseException]) -> None:
    def method(network: nn.Module, part: Batch) -> BatchLoss:
        if int(part.indices[0]) > 0:
            raise error("second part")
        return natural(network, part)

    replicas = Replicas(network(), 2)
    with pytest.raises(error, match="second part"), replicas.working():
        replicas.backward(method, batch(8), [generator(0), generator(1)], torch.float32)
    assert torch.get_num_threads() == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("replica")]


def test_a_network_with_buffers_is_not_replicated() -> None:
    normalised = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
    with pytest.raises(ValueError, match="buffers"):
        Replicas(normalised, 2)
    assert len(Replicas(normalised, 1).networks) == 1
