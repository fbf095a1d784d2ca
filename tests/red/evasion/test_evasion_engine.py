"""The engine: shards side by side give what they give one after another, and only where nothing is shared."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import TargetError
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.target import copies
from secure_ai.models.target.scorer import Scorer
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.wrappers import Wrapped
from secure_ai.models.tensors import to_channels_last
from secure_ai.red.evasion.contract import SHARD_SIZE, Attack, AttackPlan
from secure_ai.red.evasion.suite import engine
from secure_ai.red.evasion.suite.engine import Arrangement, arrange, run_shards
from secure_ai.red.evasion.suite.harness import PARTED, run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.suite.shard import ShardResult, ShardTask, SuiteTask

LINF = PerturbationBudget("linf", 0.02)
SUITE = parse_attacks("fgsm,pgd:steps=5,noise")
MEMBERS = "apgd-ce:steps=6,apgd-t:steps=5:targets=2,fab-t:steps=5:targets=2,square:query_budget=40"


@pytest.fixture(params=[2, 9], ids=["2 workers", "4 workers of 2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def run(case: Any, attacks: Sequence[AttackPlan] = SUITE, **options: Any) -> SuiteResult:
    return run_suite(case.target, case.x, case.y, budget=LINF, attacks=attacks, seed=0, **options)


def one_after_another(case: Any, attacks: Sequence[AttackPlan] = SUITE, **options: Any) -> SuiteResult:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run(case, attacks, **options)
    finally:
        torch.set_num_threads(before)


def arranged(
    target: NetworkTarget, x: Tensor, attacks: Sequence[AttackPlan] = SUITE, samples: int = 3 * SHARD_SIZE
) -> Arrangement:
    suite = SuiteTask(budget=LINF, attacks=tuple(attacks), seed=0)
    y = torch.zeros(len(x), dtype=torch.int64)
    with target.attacked():
        return arrange(target, attacks, samples, ShardTask(suite=suite, x=x, y=y, first=0))


def kind(found: Arrangement) -> str:
    """How the shards would run."""
    return found.alone and "alone" if found.workers == 1 else "shared" if found.copies is None else "copies"


def ran(case: Any, numbers: Sequence[int], work: Any) -> list[ShardResult | None]:
    with case.target.attacked():
        arrangement = arrange(case.target, SUITE, 5 * SHARD_SIZE, task_of(case))
        return list(run_shards(case.target, arrangement, work, numbers))


def task_of(case: Any) -> ShardTask:
    return ShardTask(suite=SuiteTask(budget=LINF, attacks=SUITE, seed=0), x=case.x, y=case.y, first=0)


@pytest.mark.parametrize("text", ["fgsm,pgd:steps=5,noise", MEMBERS])
def test_side_by_side_is_bit_for_bit_one_after_another(cnn_case: Callable[..., Any], threads: int, text: str) -> None:
    case, attacks = cnn_case(3 * SHARD_SIZE + 20), parse_attacks(text)
    assert kind(arranged(case.target, case.x, attacks)) == "shared"
    alone = one_after_another(case, attacks, keep_examples=True)
    spent = replace(case.target.passes)
    found = run(case, attacks, keep_examples=True)
    assert found.shard_digests == alone.shard_digests
    assert len(set(alone.shard_digests)) == 4
    for name in ("robust", "broken_by", "predictions", "attempted", "broken", "clean_correct"):
        assert np.array_equal(getattr(found, name), getattr(alone, name)), name
    costs = [(row.forward_passes, row.backward_passes, row.queries) for row in alone.rows]
    assert [(row.forward_passes, row.backward_passes, row.queries) for row in found.rows] == costs
    passes = case.target.passes
    assert (passes.forward, passes.backward) == (2 * spent.forward, 2 * spent.backward)


def test_seconds_of_the_attacks_are_shares_of_what_went_by(cnn_case: Callable[..., Any], threads: int) -> None:
    found = run(cnn_case(4 * SHARD_SIZE))
    assert 0 < sum(row.seconds for row in found.rows) <= found.seconds


class Own(nn.Module):
    """Somebody's network, with code of its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.before(x))
        return logits

    def before(self, x: Tensor) -> Tensor:
        return x - 0.5 + 0.5


class Keeping(Own):
    """Keeps its input: two threads in one module would mix theirs up, and copies do not."""

    def before(self, x: Tensor) -> Tensor:
        self.kept = x
        return self.kept


class KeepingInClass(Own):
    kept: Tensor

    def before(self, x: Tensor) -> Tensor:
        KeepingInClass.kept = x
        return KeepingInClass.kept


KEPT: list[Tensor] = []


class KeepingInGlobal(Own):
    def before(self, x: Tensor) -> Tensor:
        KEPT.append(x)
        return KEPT[-1]


class WritingInClass(Own):
    shift = torch.zeros(1)

    def before(self, x: Tensor) -> Tensor:
        self.shift.copy_(torch.zeros(1))
        return x + self.shift


class Drifting(Own):
    """Answers otherwise with every call; a copy that was called less often has come apart."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + 1e-3 * self.calls * torch.arange(5)


class Uncopied(Own):
    def __deepcopy__(self, memo: dict[int, Any]) -> Uncopied:
        raise TypeError


class Lent(Own):
    """A copy has the original's weights."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.lend = lambda: network

    def before(self, x: Tensor) -> Tensor:
        return x


class Raising(Own):
    """Two calls at once are an error."""

    inside = 0

    def before(self, x: Tensor) -> Tensor:
        type(self).inside += 1
        try:
            time.sleep(0.05)
            if type(self).inside > 1:
                raise RuntimeError("one at a time")
            return x + 0
        finally:
            type(self).inside -= 1


def hooked(network: nn.Module) -> nn.Module:
    next(network.children()).register_forward_hook(lambda module, inputs, output: None)
    return network


def hooked_behind(network: nn.Module) -> nn.Module:
    next(network.children()).register_full_backward_pre_hook(lambda module, gradient: None)
    return network


class Random(nn.Dropout):
    """Draws in evaluation mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, training=True)


def patched(network: nn.Module) -> nn.Module:
    network.forward = network.forward
    return network


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (nn.Sequential, "shared"),
        (lambda network: nn.Sequential(network, nn.Identity(), nn.Softmax(dim=1)), "shared"),
        (Wrapped, "shared"),
        (Own, "copies"),
        (Keeping, "copies"),
        (patched, "copies"),
        (Drifting, "copies"),
        (lambda network: Wrapped(Wrapped(Keeping(network))), "copies"),
        (KeepingInClass, "alone"),
        (KeepingInGlobal, "alone"),
        (WritingInClass, "alone"),
        (Uncopied, "alone"),
        (Lent, "alone"),
        (Raising, "alone"),
        (hooked, "alone"),
        (hooked_behind, "alone"),
        (lambda network: hooked(Own(network)), "alone"),
        (lambda network: nn.Sequential(network, Random()), "alone"),
    ],
)
def test_what_networks_share(
    cnn_case: Callable[..., Any], threads: int, change: Callable[[nn.Module], nn.Module], expected: str
) -> None:
    case = cnn_case(4)
    case.target.network = change(case.target.network).eval()
    found = arranged(case.target, case.x)
    assert kind(found) == expected
    assert bool(found.alone) is (expected == "alone")


def test_copies_beyond_the_memory_allowed_are_not_made(
    cnn_case: Callable[..., Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cnn_case(4)
    case.target.network = Own(case.target.network).eval()
    monkeypatch.setattr(copies, "MAX_COPIES_BYTES", 100)
    assert "2 GiB" in arranged(case.target, case.x).alone


@pytest.mark.parametrize("own", [Own, Keeping, KeepingInClass])
def test_a_users_module_gets_the_figures_that_it_gets_alone(
    cnn_case: Callable[..., Any], threads: int, own: type[Own]
) -> None:
    case, attacks = cnn_case(3 * SHARD_SIZE + 20), parse_attacks(MEMBERS)
    case.target.network = own(case.target.network).eval()
    before = {key: value.clone() for key, value in case.target.network.state_dict().items()}
    alone = one_after_another(case, attacks, keep_examples=True)
    found = run(case, attacks, keep_examples=True)
    assert bool(found.ran_alone) is (own is KeepingInClass)
    assert found.shard_digests == alone.shard_digests
    assert np.array_equal(found.robust, alone.robust)
    costs = [(row.forward_passes, row.backward_passes, row.queries) for row in alone.rows]
    assert [(row.forward_passes, row.backward_passes, row.queries) for row in found.rows] == costs
    assert all(torch.equal(value, before[key]) for key, value in case.target.network.state_dict().items())


def test_predictions_that_count_are_the_originals(cnn_case: Callable[..., Any], threads: int) -> None:
    case, attacks = cnn_case(3 * SHARD_SIZE), parse_attacks("fgsm,pgd:steps=5")
    called: list[int] = []

    class Told(Own):
        def before(self, x: Tensor) -> Tensor:
            called.append(id(self))
            return x - 0

    original = case.target.network = Told(case.target.network).eval()
    assert run(case, attacks).ran_alone == ""
    assert len(set(called)) > 1
    passes = SHARD_SIZE // engine.WORKER_BATCH  # of one look at a whole shard
    trial_and_end = 1 + 1 + 1 + 1 + 6
    assert 3 * passes < called.count(id(original)) <= 3 * passes * (1 + len(attacks)) + trial_and_end
    assert called.count(id(original)) < len(called) / 2


def test_where_copies_have_come_apart_all_is_run_again_alone(cnn_case: Callable[..., Any], threads: int) -> None:
    case = cnn_case(3 * SHARD_SIZE)
    case.target.network = Drifting(case.target.network).eval()
    told: list[int] = []
    found = run(case, progress=lambda done, total: told.append(done))
    assert found.ran_alone == PARTED
    assert len(found.shard_digests) == 3
    assert told.count(3 * SHARD_SIZE * len(SUITE)) == 2


def test_a_copy_that_changes_its_weights_is_caught(cnn_case: Callable[..., Any], threads: int) -> None:
    class Growing(Own):
        def before(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 100:
                self.network.get_parameter("0.weight").data.mul_(1.01)
            return x - 0

    case = cnn_case(3 * SHARD_SIZE)
    case.target.network = Growing(case.target.network).eval()
    with pytest.raises(TargetError, match="own weights"):
        run(case, parse_attacks("pgd:steps=40"))


def test_only_gradients_let_a_network_be_copied(cnn_case: Callable[..., Any], threads: int) -> None:
    case = cnn_case(4)
    case.target.network = Own(case.target.network).eval()
    assert kind(arranged(case.target, case.x)) == "copies"
    case.target.access = "scores"
    assert arranged(case.target, case.x).alone
    case.target.network = Scorer(lambda x: np.zeros((len(x), 5), np.float32), "scores")
    assert arranged(case.target, case.x).alone


def test_a_hook_on_every_module_means_one_call_at_a_time(cnn_case: Callable[..., Any], threads: int) -> None:
    case = cnn_case(4)
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        assert arranged(case.target, case.x).alone
    finally:
        handle.remove()


def test_random_networks_and_attacks_from_elsewhere_get_one_call_at_a_time(
    cnn_case: Callable[..., Any], threads: int
) -> None:
    random_case, case = cnn_case(4, deterministic=False), cnn_case(4)
    assert arranged(random_case.target, case.x).alone
    strange = replace(SUITE[0], entry=replace(SUITE[0].entry, attack=cast(Attack, lambda *_, **__: None)))
    assert arranged(case.target, case.x, [*SUITE, strange]).alone


def test_a_part_of_a_shard_is_not_worth_a_worker(cnn_case: Callable[..., Any], threads: int) -> None:
    case = cnn_case(4)
    assert arranged(case.target, case.x, samples=2 * SHARD_SIZE - 1) == Arrangement(1)
    assert arranged(case.target, case.x, samples=2 * SHARD_SIZE) == Arrangement(2)


@pytest.mark.parametrize("arch", sorted(NETWORKS))
def test_the_built_in_networks_give_the_same_bits_on_all_threads_and_beside_each_other(
    arch: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, attacks = torch.Generator().manual_seed(1), parse_attacks("fgsm,pgd:steps=1")
    network = to_channels_last(build_network(arch, generator=draw))
    target = NetworkTarget(network, name=arch, digest="d" * 64, input_shape=(1, 28, 28), num_classes=10)
    x = torch.rand((2 * SHARD_SIZE + 65, 1, 28, 28), generator=draw)
    y = target.predict(x)

    def digests() -> tuple[str, ...]:
        return run_suite(target, x, y, budget=LINF, attacks=attacks, seed=0, keep_examples=True).shard_digests

    beside = digests()
    assert kind(arranged(target, x[:4], attacks)) == "shared"
    monkeypatch.setattr(engine, "WORKERS", 1)
    assert arranged(target, x[:4], attacks) == Arrangement(1)
    assert digests() == beside


def test_of_several_errors_the_lowest_numbers_is_raised(cnn_case: Callable[..., Any], threads: int) -> None:
    second_failed = threading.Event()

    def work(target: NetworkTarget, searched: NetworkTarget, number: int) -> ShardResult:
        if number == 0:
            assert second_failed.wait(10)
        else:
            second_failed.set()
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^0$"):
        ran(cnn_case(4), range(5), work)


def test_after_an_error_the_other_threads_stop_at_their_next_pass(cnn_case: Callable[..., Any], threads: int) -> None:
    case, stopped, at_work = cnn_case(4), threading.Event(), threading.Event()

    def work(target: NetworkTarget, searched: NetworkTarget, number: int) -> ShardResult:
        if number == 0:
            assert at_work.wait(10)
            raise ValueError("no")
        try:
            while True:
                target.logits(case.x)
                at_work.set()
        except KeyboardInterrupt:
            stopped.set()
            raise

    with pytest.raises(ValueError, match="no"):
        ran(case, range(2), work)
    assert stopped.is_set()
    assert case.target.passes.forward >= 4


@pytest.mark.parametrize("where", ["in a worker", "in the main thread"])
def test_ctrl_c_keeps_the_leading_shards_and_leaves_nothing(
    cnn_case: Callable[..., Any], threads: int, where: str
) -> None:
    case = cnn_case(12 * SHARD_SIZE)
    state = (torch.get_rng_state(), random.getstate(), threading.active_count())
    pressed = threading.Event()

    def interrupt(done: int, total: int) -> None:
        if done < total // 2 or pressed.is_set():
            return
        pressed.set()
        if where == "in a worker":
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # Python tells the main thread, which waits

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        found = run(case, progress=interrupt, keep_examples=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(found.interruption, KeyboardInterrupt)
    assert not found.complete
    finished = len(found.shard_digests)
    assert 0 < finished < 12
    assert found.evaluated.tolist() == [True] * (finished * SHARD_SIZE) + [False] * ((12 - finished) * SHARD_SIZE)
    assert found.shard_digests == run(case, keep_examples=True).shard_digests[:finished]
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (random.getstate(), threading.active_count()) == state[1:]
    with ThreadPoolExecutor(1) as other:
        assert {torch.get_num_threads(), other.submit(torch.get_num_threads).result()} == {threads}


def test_progress_rises_to_its_total(cnn_case: Callable[..., Any], threads: int) -> None:
    told: list[tuple[int, int]] = []
    case = cnn_case(4 * SHARD_SIZE)
    run(case, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (len(case.x) * len(SUITE),) * 2
