"""Oracle: the gradient of one pass over the whole batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from secure_ai.blue.training.loop import Checkpoint, TrainingPlan, train
from secure_ai.blue.training.methods import Batch, BatchLoss, Method, half_replaced, natural, paired
from secure_ai.blue.training.replicas import Replicas, allowed_replicas
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


def batch(n: int, parts: int = 1) -> list[Batch]:
    """The same n samples in parts."""
    draws = generator(1, "batch", n)
    x, y = torch.rand(n, 1, 28, 28, generator=draws), torch.randint(0, 10, (n,), generator=draws)
    pieces = zip(x.chunk(parts), y.chunk(parts), torch.arange(n).chunk(parts), strict=True)
    return [Batch(part, labels, indices, generator(k)) for k, (part, labels, indices) in enumerate(pieces)]


def trained(
    digits: Dataset,
    *,
    replicas: int = 2,
    method: Method = natural,
    dtype: torch.dtype = torch.float32,
    checkpoint: Checkpoint | None = None,
) -> TrainingState:
    plan = TrainingPlan(
        epochs=2, batch_size=64, schedule=constant(1e-2), seed=3, adam_epsilon=1e-8, dtype=dtype, replicas=replicas
    )  # fmt: skip
    return train(network(), digits, method=method, plan=plan, checkpoint=checkpoint)


def doubled(network: nn.Module, batch: Batch) -> Tensor:
    """An adversary for tests: brighter by what its own generator draws."""
    return (batch.x + 0.1 * torch.rand(batch.x.shape, generator=batch.generator)).clamp(0, 1)


def equal(first: TrainingState, second: TrainingState) -> bool:
    return all(torch.equal(value, second.network[name]) for name, value in first.network.items())


def brighter(network: nn.Module, batch: Batch) -> Tensor:
    """An adversary that draws nothing."""
    return (batch.x + 0.1).clamp(0, 1)


METHODS = {
    "natural": natural,
    "paired": paired(brighter),
    "all replaced": half_replaced(brighter, ratio=1.0),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 3, 64, 65])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_gradient_is_that_of_the_whole_batch(count: int, n: int, method: str) -> None:
    whole, split = network(), network()
    expected = METHODS[method](whole.train(), batch(n)[0])
    expected.loss.backward()
    replicas = Replicas(split, count)
    with replicas.working():
        found = replicas.backward(METHODS[method], batch(n, count), torch.float32)
    for mine, theirs in zip(split.parameters(), whole.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found.loss, expected.loss.detach())
    assert (int(found.correct), found.n) == (int(expected.correct), expected.n)


def test_two_steps_use_the_new_weights_in_every_replica() -> None:
    """A replica that kept the old weights would give another second gradient."""
    split, whole = network(), network()
    replicas = Replicas(split, 2)
    for _ in range(2):
        natural(whole.train(), batch(64)[0]).loss.backward()
        with replicas.working():
            replicas.backward(natural, batch(64, 2), torch.float32)
        for one in (whole, split):
            torch.optim.SGD(one.parameters(), lr=1.0).step()
            one.zero_grad()
    for mine, theirs in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def slowed(method: Method, part: int) -> Method:
    """Now one part comes last, now the other."""

    def slow(network: nn.Module, batch: Batch) -> BatchLoss:
        if batch.indices[0] % 2 == part:
            time.sleep(0.01)
        return method(network, batch)

    return slow


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", [natural, paired(doubled), half_replaced(doubled)], ids=["natural", "pair", "half"])
def test_the_same_seed_gives_the_same_bits_whoever_is_faster(
    digits: Dataset, method: Method, dtype: torch.dtype
) -> None:
    first = trained(digits, method=method, dtype=dtype)
    for part in (0, 1):
        assert equal(first, trained(digits, method=slowed(method, part), dtype=dtype))
    torch.set_num_threads(1)
    assert equal(first, trained(digits, method=method, dtype=dtype))


def test_resuming_equals_not_stopping(digits: Dataset) -> None:
    class StopsOnce:
        state: TrainingState | None = None

        def load(self) -> TrainingState | None:
            return self.state

        def save(self, state: TrainingState) -> None:
            self.state = state
            raise KeyboardInterrupt

    checkpoint = StopsOnce()
    with pytest.raises(KeyboardInterrupt):
        trained(digits, checkpoint=checkpoint)
    assert equal(trained(digits), trained(digits, checkpoint=checkpoint))


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
        replicas.backward(method, batch(65, 2), torch.float32)
    assert sorted(seen) == [(32, 1), (33, 1)]
    assert torch.get_num_threads() == 2


def test_who_allows_one_thread_gets_no_second() -> None:
    torch.set_num_threads(1)
    at_work, most = [0], [0]

    def method(network: nn.Module, part: Batch) -> BatchLoss:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        time.sleep(0.01)
        at_work[0] -= 1
        return natural(network, part)

    replicas = Replicas(network(), 2)
    with replicas.working():
        replicas.backward(method, batch(8, 2), torch.float32)
    assert most == [1]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_part_raises_is_raised_and_the_threads_are_put_back(error: type[BaseException]) -> None:
    def method(network: nn.Module, part: Batch) -> BatchLoss:
        if int(part.indices[0]) > 0:
            raise error("second part")
        return natural(network, part)

    replicas = Replicas(network(), 2)
    with pytest.raises(error, match="second part"), replicas.working():
        replicas.backward(method, batch(8, 2), torch.float32)
    assert torch.get_num_threads() == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("replica")]


def test_no_part_is_left_out() -> None:
    replicas = Replicas(network(), 2)
    with pytest.raises(ValueError, match="more parts"):
        replicas.backward(natural, batch(8, 2), torch.float32)
    with replicas.working(), pytest.raises(ValueError, match="more parts"):
        replicas.backward(natural, batch(8, 3), torch.float32)


def test_a_network_with_batch_statistics_trains_in_one_part(digits: Dataset) -> None:
    """Whatever is asked for: the same weights and statistics as with one replica, and it learns."""
    found = []
    for replicas in (1, 2):
        torch.manual_seed(5)
        normalised = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
        plan = TrainingPlan(
            epochs=2, batch_size=64, schedule=constant(1e-2), seed=3, adam_epsilon=1e-8, dtype=torch.float32,
            replicas=replicas,
        )  # fmt: skip
        found.append(train(normalised, digits, method=natural, plan=plan))
    assert equal(*found)
    assert found[1].history["loss"][1] < found[1].history["loss"][0]
    assert int(found[1].network["1.num_batches_tracked"]) > 2
    assert allowed_replicas(network(), 2) == 2
    assert allowed_replicas(nn.Sequential(network(), nn.Dropout()), 2) == 1
