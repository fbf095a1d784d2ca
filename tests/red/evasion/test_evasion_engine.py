"""The engine: shards side by side give what they give one after another, and only where nothing is shared."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.target.scorer import Scorer
from secure_ai.models.target.target import Target
from secure_ai.models.target.wrappers import Wrapped
from secure_ai.models.tensors import to_channels_last
from secure_ai.red.evasion.contract import SHARD_SIZE, Attack, AttackPlan
from secure_ai.red.evasion.suite import engine
from secure_ai.red.evasion.suite.catalogue import ATTACKS, parse_attacks
from secure_ai.red.evasion.suite.engine import run_shards
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.suite.shard import ShardResult

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


def places(target: Target, attacks: Sequence[AttackPlan], samples: int = 3 * SHARD_SIZE) -> set[str]:
    """Where the shards would run: `here` or `beside`."""

    def work(target: Target, number: int) -> ShardResult:
        place: Any = "here" if threading.current_thread() is threading.main_thread() else "beside"
        return cast(ShardResult, place)

    with target.attacked():
        return {str(place) for place in run_shards(target, attacks, work, range(3), samples=samples)}


@pytest.mark.parametrize("text", ["fgsm,pgd:steps=5,noise", MEMBERS])
def test_side_by_side_is_bit_for_bit_one_after_another(cnn_case: Callable[..., Any], threads: int, text: str) -> None:
    case, attacks = cnn_case(3 * SHARD_SIZE + 20), parse_attacks(text)
    assert places(case.target, attacks) == {"beside"}
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
        self.calls, self.seen = 0, [0]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.before(x))
        return logits

    def before(self, x: Tensor) -> Tensor:
        return x - 0.5 + 0.5


class Keeping(Own):
    def before(self, x: Tensor) -> Tensor:
        self.kept = x
        return self.kept


class Counting(Own):
    def before(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x


class Listing(Own):
    def before(self, x: Tensor) -> Tensor:
        self.seen.append(1)
        return x


class Looking(Own):
    def before(self, x: Tensor) -> Tensor:
        return x if x.mean() > 2 else x + 0


class Sorting(Own):
    def before(self, x: Tensor) -> Tensor:
        return x.sort().values


class WithoutGradient(Own):
    def before(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return x * 0.5


class Asking(Own):
    def before(self, x: Tensor) -> Tensor:
        return x * 0.5 if torch.is_grad_enabled() else x


class HalfWithoutGradient(Own):
    def before(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            half = x * 0.5
        return x * 0.5 + half


class Coarse(Own):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


class Refusing(Own):
    def before(self, x: Tensor) -> Tensor:
        if type(x) is not Tensor:
            raise SystemExit
        return x


class Uncopied(Own):
    def __deepcopy__(self, memo: dict[int, Any]) -> Uncopied:
        raise TypeError


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
    "change",
    [
        Keeping,
        Counting,
        Listing,
        Looking,
        Sorting,
        WithoutGradient,
        Asking,
        HalfWithoutGradient,
        Coarse,
        Refusing,
        Uncopied,
        lambda network: Wrapped(Wrapped(Keeping(network))),
        lambda network: Wrapped(Wrapped(Sorting(network))),
        lambda network: hooked(Own(network)),
        lambda network: patched(Own(network)),
        hooked,
        hooked_behind,
        patched,
        lambda network: nn.Sequential(network, Random()),
        lambda network: Scorer(lambda x: np.zeros((len(x), 5)), "scores"),
    ],
)
def test_networks_that_may_keep_something_get_one_call_at_a_time(
    cnn_case: Callable[..., Any], threads: int, change: Callable[[nn.Module], nn.Module]
) -> None:
    target = cnn_case(4).target
    assert places(target, SUITE) == {"beside"}
    target.network = change(target.network)
    assert places(target, SUITE) == {"here"}


def test_a_network_of_known_operations_is_searched_by_all_and_called_by_one(
    cnn_case: Callable[..., Any], threads: int
) -> None:
    case, attacks = cnn_case(3 * SHARD_SIZE + 20), parse_attacks(MEMBERS)
    calls: list[str] = []

    class Watched(Own):
        def before(self, x: Tensor) -> Tensor:
            calls.append(threading.current_thread().name if type(x) is Tensor else "recorded")
            return x - 0.5 + 0.5

    case.target.network = Watched(case.target.network)
    before = {key: value.clone() for key, value in case.target.network.state_dict().items()}
    assert places(case.target, attacks) == {"beside"}
    alone = one_after_another(case, attacks, keep_examples=True)
    alone_calls = len(calls)
    calls.clear()
    found = run(case, attacks, keep_examples=True)
    assert found.shard_digests == alone.shard_digests
    assert np.array_equal(found.robust, alone.robust)
    costs = [(row.forward_passes, row.backward_passes, row.queries) for row in alone.rows]
    assert [(row.forward_passes, row.backward_passes, row.queries) for row in found.rows] == costs
    assert calls.count("recorded") == 1
    # clean passes and verifications ask the network itself
    assert 4 * (1 + len(attacks)) <= sum(name.startswith("shard") for name in calls) < alone_calls / 3
    assert all(torch.equal(value, before[key]) for key, value in case.target.network.state_dict().items())
    assert set(vars(case.target.network)) == set(vars(Own(nn.Identity())))


def test_only_gradients_let_a_network_be_recorded(cnn_case: Callable[..., Any], threads: int) -> None:
    target = cnn_case(4).target
    target.network = Wrapped(Wrapped(Own(target.network)))
    assert places(target, SUITE) == {"beside"}
    target.access = "scores"
    assert places(target, SUITE) == {"here"}


def test_a_hook_on_every_module_means_one_call_at_a_time(cnn_case: Callable[..., Any], threads: int) -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        assert places(cnn_case(4).target, SUITE) == {"here"}
    finally:
        handle.remove()


def test_random_networks_and_attacks_from_elsewhere_get_one_call_at_a_time(
    cnn_case: Callable[..., Any], threads: int
) -> None:
    assert places(cnn_case(4, deterministic=False).target, SUITE) == {"here"}
    strange = replace(SUITE[0], entry=replace(ATTACKS["fgsm"], attack=cast(Attack, lambda *_, **__: None)))
    assert places(cnn_case(4).target, [*SUITE, strange]) == {"here"}


def test_a_part_of_a_shard_is_not_worth_a_worker(cnn_case: Callable[..., Any], threads: int) -> None:
    assert places(cnn_case(4).target, SUITE, samples=2 * SHARD_SIZE - 1) == {"here"}
    assert places(cnn_case(4).target, SUITE, samples=2 * SHARD_SIZE) == {"beside"}


@pytest.mark.parametrize("arch", sorted(NETWORKS))
def test_the_built_in_networks_give_the_same_bits_on_all_threads_and_beside_each_other(
    arch: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, attacks = torch.Generator().manual_seed(1), parse_attacks("fgsm,pgd:steps=1")
    network = to_channels_last(build_network(arch, generator=draw))
    target = Target(network, name=arch, digest="d" * 64, input_shape=(1, 28, 28), num_classes=10)
    x = torch.rand((2 * SHARD_SIZE + 65, 1, 28, 28), generator=draw)
    y = target.predict(x)

    def digests() -> tuple[str, ...]:
        return run_suite(target, x, y, budget=LINF, attacks=attacks, seed=0, keep_examples=True).shard_digests

    beside = digests()
    assert places(target, attacks) == {"beside"}
    monkeypatch.setattr(engine, "WORKERS", 1)
    assert places(target, attacks) == {"here"}
    assert digests() == beside


def test_of_several_errors_the_lowest_numbers_is_raised(cnn_case: Callable[..., Any], threads: int) -> None:
    second_failed = threading.Event()

    def work(target: Target, number: int) -> ShardResult:
        if number == 0:
            assert second_failed.wait(10)
        else:
            second_failed.set()
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^0$"):
        list(run_shards(cnn_case(4).target, SUITE, work, range(5), samples=5 * SHARD_SIZE))


def test_after_an_error_the_other_threads_stop_at_their_next_pass(cnn_case: Callable[..., Any], threads: int) -> None:
    case, stopped, at_work = cnn_case(4), threading.Event(), threading.Event()

    def work(target: Target, number: int) -> ShardResult:
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
        list(run_shards(case.target, SUITE, work, range(2), samples=2 * SHARD_SIZE))
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
