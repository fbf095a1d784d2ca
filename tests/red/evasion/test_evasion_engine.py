"""The engine: shards side by side give what they give one after another, and only where nothing is shared."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.scorer import Scorer
from secure_ai.models.target import Target
from secure_ai.red.evasion.catalogue import ATTACKS, parse_attacks
from secure_ai.red.evasion.contract import SHARD_SIZE, Attack, AttackPlan
from secure_ai.red.evasion.engine import run_shards
from secure_ai.red.evasion.harness import run_suite
from secure_ai.red.evasion.shard import ShardResult
from secure_ai.red.evasion.suite import SuiteResult

LINF = PerturbationBudget("linf", 0.02)
SUITE = parse_attacks("fgsm,pgd:steps=5,noise")
MEMBERS = "apgd-ce:steps=6,apgd-t:steps=5:targets=2,fab-t:steps=5:targets=2,square:query_budget=40"


@pytest.fixture(params=[2, 3])
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


def places(target: Target, attacks: Sequence[AttackPlan], count: int = 3) -> list[str]:
    """The threads on which shards would run."""
    return [
        str(name)
        for name in run_shards(target, attacks, lambda *_: cast(Any, threading.current_thread().name), range(count))
    ]


@pytest.mark.parametrize("text", ["fgsm,pgd:steps=5,noise", MEMBERS])
def test_side_by_side_is_bit_for_bit_one_after_another(cnn_case: Callable[..., Any], threads: int, text: str) -> None:
    case, attacks = cnn_case(3 * SHARD_SIZE + 20), parse_attacks(text)
    assert all(name.startswith("shard") for name in places(case.target, attacks))
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
    """Somebody's network: it might keep anything."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def hooked(network: nn.Module) -> nn.Module:
    next(network.children()).register_forward_hook(lambda module, inputs, output: None)
    return network


def patched(network: nn.Module) -> nn.Module:
    network.forward = network.forward
    return network


@pytest.mark.parametrize(
    "change", [Own, hooked, patched, lambda network: Scorer(lambda x: np.zeros((len(x), 5)), "scores")]
)
def test_networks_that_may_keep_something_get_one_call_at_a_time(
    cnn_case: Callable[..., Any], threads: int, change: Callable[[nn.Module], nn.Module]
) -> None:
    target = cnn_case(4).target
    assert places(target, SUITE)[0].startswith("shard")
    target.network = change(target.network)
    assert set(places(target, SUITE)) == {threading.current_thread().name}


def test_random_networks_and_attacks_from_elsewhere_get_one_call_at_a_time(
    cnn_case: Callable[..., Any], threads: int
) -> None:
    here = {threading.current_thread().name}
    assert set(places(cnn_case(4, deterministic=False).target, SUITE)) == here
    strange = replace(SUITE[0], entry=replace(ATTACKS["fgsm"], attack=cast(Attack, lambda *_, **__: None)))
    assert set(places(cnn_case(4).target, [*SUITE, strange])) == here
    assert set(places(cnn_case(4).target, SUITE, count=1)) == here


def test_of_several_errors_the_lowest_numbers_is_raised(cnn_case: Callable[..., Any], threads: int) -> None:
    second_failed = threading.Event()

    def work(target: Target, number: int) -> ShardResult:
        if number == 0:
            assert second_failed.wait(10)
        else:
            second_failed.set()
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^0$"):
        list(run_shards(cnn_case(4).target, SUITE, work, range(5)))


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
        list(run_shards(case.target, SUITE, work, range(2)))
    assert stopped.is_set()
    assert case.target.passes.forward >= 4


def test_ctrl_c_keeps_the_leading_shards_and_leaves_no_thread(cnn_case: Callable[..., Any], threads: int) -> None:
    case = cnn_case(8 * SHARD_SIZE)
    state = (torch.get_rng_state(), random.getstate(), threading.active_count())

    def interrupt(done: int, total: int) -> None:
        if done >= total // 2:
            raise KeyboardInterrupt

    found = run(case, progress=interrupt, keep_examples=True)
    assert isinstance(found.interruption, KeyboardInterrupt)
    assert not found.complete
    finished = len(found.shard_digests)
    assert 0 < finished < 8
    assert found.evaluated.tolist() == [True] * (finished * SHARD_SIZE) + [False] * ((8 - finished) * SHARD_SIZE)
    assert found.shard_digests == run(case, keep_examples=True).shard_digests[:finished]
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (random.getstate(), threading.active_count(), torch.get_num_threads()) == (*state[1:], threads)


def test_progress_rises_to_its_total(cnn_case: Callable[..., Any], threads: int) -> None:
    told: list[tuple[int, int]] = []
    case = cnn_case(4 * SHARD_SIZE)
    run(case, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (len(case.x) * len(SUITE),) * 2
