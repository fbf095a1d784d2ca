"""The one function that judges: what it asks, and what a curve, a single attack and a clean accuracy are spared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import AttackSettingsError
from secure_ai.core.trust import Check, CheckOutcome, Trust, Verdict, check
from secure_ai.data.dataset import Dataset
from secure_ai.models.preflight.preflight import ONLY_FOR_ATTACKS, examine
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust import judged as module
from secure_ai.red.evasion.trust.data_checks import data_checks
from secure_ai.red.evasion.trust.judged import (
    Judged,
    SavedExamples,
    judge_clean,
    judge_network,
    judge_single,
    probe_network,
)
from secure_ai.red.evasion.trust.probes.diagnose import OF_SURVIVORS, PROBES

N, EPS = 24, 0.15
BUDGET, PGD = PerturbationBudget("linf", EPS), parse_attacks("pgd:steps=5")

pytestmark = pytest.mark.usefixtures("smaller_probes")


class Rows(nn.Module):
    """The sum over row k scores class k."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(8).repeat_interleave(8, dim=1)[:4])

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


@pytest.fixture
def data() -> Dataset:
    y = np.arange(N) % 4
    x = np.random.default_rng(0).uniform(0, 0.3, (N, 1, 8, 8)).astype(np.float32)
    x[np.arange(N), 0, y] += np.random.default_rng(1).uniform(0.1, 0.6, (N, 1)).astype(np.float32)
    return Dataset(x, y.astype(np.int64), "rows", 4)


@pytest.fixture
def target() -> NetworkTarget:
    return NetworkTarget(Rows().eval(), name="rows", digest="d" * 64, input_shape=(1, 8, 8), num_classes=4)


def ids(trust: Trust) -> list[str]:
    return [made.id for made in trust.checks]


def outcome(trust: Trust, identifier: str) -> CheckOutcome:
    (found,) = [made.outcome for made in trust.checks if made.id == identifier]
    return found


@pytest.fixture(autouse=True)
def _no_suite_is_too_weak_for_probes(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "settled" not in request.keywords:
        monkeypatch.setattr(module, "SETTLED_BY", frozenset())


@pytest.fixture
def judged(target: NetworkTarget, data: Dataset) -> Judged:
    return judge_network(target, data, BUDGET, PGD, 0)


def test_every_check_is_asked_once(judged: Judged, data: Dataset) -> None:
    asked = ids(judged.trust)
    assert len(asked) == len(set(asked))
    expected = [*judged.checked.checks, *data_checks(data), *judged.probes]
    assert {made.id for made in expected} | OF_SURVIVORS | {"same-answers-after", "zero-gradients"} <= set(asked)
    assert judged.probes
    assert not OF_SURVIVORS & {made.id for made in judged.probes}


def test_what_was_made_before_is_handed_on_and_only_survivors_are_asked_about_again(
    target: NetworkTarget, data: Dataset, judged: Judged
) -> None:
    planted = (check("planted", False, "made before"),)
    again = judge_network(target, data, BUDGET, PGD, 0, checked=judged.checked, probes=lambda: planted)
    assert again.checked is judged.checked
    assert again.probes == planted
    assert set(ids(again.trust)) == set(ids(judged.trust)) - {made.id for made in judged.probes} | {"planted"}
    assert (again.result.robust == judged.result.robust).all()
    handed = judge_network(target, data, BUDGET, PGD, 0, checked=judged.checked, probes=lambda: judged.probes)
    assert set(handed.trust.checks) == set(judged.trust.checks)


@pytest.mark.parametrize("weak", [True, False])
def test_a_suite_that_no_probe_could_help_is_spared_them(
    monkeypatch: pytest.MonkeyPatch, target: NetworkTarget, data: Dataset, weak: bool
) -> None:
    settled = frozenset({"suite-strength"}) if weak else frozenset({"complete"})
    monkeypatch.setattr(module, "SETTLED_BY", settled)
    phases: list[str] = []
    told: list[float] = []
    found = judge_network(
        target, data, BUDGET, PGD, 0, phase=phases.append, progress=lambda done, total: told.append(done / total)
    )
    of_probes = [made for made in found.trust.checks if made.id in PROBES]
    assert [made.id for made in of_probes] == list(PROBES)
    assert all((made.outcome is CheckOutcome.NOT_RUN and "already doubtful" in made.evidence) is weak
               for made in of_probes if made.id != "binarisation")  # fmt: skip
    assert phases == [module.ATTACKING] + ([] if weak else [module.PROBING])
    assert told == sorted(told)
    assert told[-1] == 1
    assert (sum(share >= module.ATTACKS_PARTS / module.PARTS for share in told) > 3) is not weak  # a step a probe
    assert found.probe_seconds > 0


def test_probes_for_a_curve_are_those_of_the_number_alone(data: Dataset, judged: Judged) -> None:
    assert probe_network(judged.checked, data, BUDGET, judged.result.plans, 0) == judged.probes


def test_who_fell_at_a_smaller_eps_has_fallen_at_a_larger_one(
    target: NetworkTarget, data: Dataset, judged: Judged
) -> None:
    standing = judged.result.robust.copy()
    fallen = np.flatnonzero(standing)[:2]
    standing[fallen] = False
    point = judge_network(target, data, BUDGET, PGD, 0, checked=judged.checked, probes=tuple, standing=standing)
    assert not point.robust[fallen].any()
    assert point.robust_accuracy.successes == int(judged.result.robust.sum()) - 2 == int(point.robust.sum())
    assert point.result.robust_accuracy.successes == int(judged.result.robust.sum())
    assert point.probes == judged.probes  # an empty hand spares nothing
    assert "monotone-in-eps" in ids(point.trust)
    assert "monotone-in-eps" not in ids(judged.trust)
    nobody = np.zeros(N, dtype=bool)
    risen = judge_network(target, data, BUDGET, PGD, 0, checked=judged.checked, probes=tuple, standing=nobody)
    assert outcome(risen.trust, "monotone-in-eps") is CheckOutcome.FAIL


def test_a_single_attack_is_asked_everything_but_the_probes_and_is_never_reliable(
    target: NetworkTarget, data: Dataset, judged: Judged
) -> None:
    many = data.select(np.arange(1008) % N, "each image many times")
    (pgd,) = PGD
    alone = judge_single(target, data, BUDGET, pgd, 0)
    assert ids(alone.trust) == [i for i in ids(judged.trust) if i not in OF_SURVIVORS | {p.id for p in judged.probes}]
    assert (alone.result.robust == judged.result.robust).all()
    for (attack,) in map(parse_attacks, ("apgd-ce:steps=100", "apgd-t:steps=100", "square:query_budget=100")):
        long = judge_single(target, many, BUDGET, attack, 0)
        assert outcome(long.trust, "sample-size") is CheckOutcome.PASS
        assert outcome(long.trust, "suite-strength") is CheckOutcome.FAIL
        assert long.trust.verdict is not Verdict.RELIABLE


def test_a_further_check_can_lower_a_verdict_and_never_raise_it(judged: Judged) -> None:
    sound = Judged(judged.result, Trust(Verdict.RELIABLE, (check("a", True, ""),)), judged.checked, (), judged.robust)
    assert sound.also(check("b", True, "")).trust.verdict is Verdict.RELIABLE
    assert sound.also(check("b", False, "")).trust.verdict is Verdict.DOUBTFUL
    assert sound.also(check("made-for-another-network", False, "")).trust.verdict is Verdict.BROKEN
    assert judged.also(check("b", True, "")).trust.verdict is judged.trust.verdict is Verdict.DOUBTFUL


def test_a_clean_accuracy_is_not_asked_for_gradients(target: NetworkTarget, data: Dataset) -> None:
    checked = examine(target, data, 0)
    asked = ids(judge_clean(checked, data))
    assert {made.id for made in checked.checks} >= ONLY_FOR_ATTACKS
    assert not ONLY_FOR_ATTACKS & set(asked)
    expected: list[Check] = [made for made in checked.checks if made.id not in ONLY_FOR_ATTACKS]
    assert asked == ["sample-size", *(made.id for made in (*expected, *data_checks(data))), "same-answers-after"]


def test_a_target_without_gradients_is_not_probed(data: Dataset) -> None:
    scored = NetworkTarget(Rows().eval(), name="r", digest="d", input_shape=(1, 8, 8), num_classes=4, access="scores")
    plans = parse_attacks("square:query_budget=5")
    found = judge_network(scored, data, BUDGET, plans, 0)
    assert found.probes == () == probe_network(found.checked, data, BUDGET, plans, 0)
    assert not OF_SURVIVORS & set(ids(found.trust))
    assert outcome(found.trust, "zero-gradients") is CheckOutcome.NOT_RUN
    assert outcome(found.trust, "access") is CheckOutcome.FAIL


def test_the_result_is_given_out_before_it_is_judged(target: NetworkTarget, data: Dataset) -> None:
    kept: list[SuiteResult] = []

    def give_up(result: SuiteResult) -> None:
        kept.append(result)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        judge_network(target, data, BUDGET, PGD, 0, attacked=give_up)
    assert kept[0].complete


class Closing(Rows):
    """Ctrl-C is pressed at a call of the network after the suite has been given out."""

    closed = False

    def forward(self, x: Tensor) -> Tensor:
        if self.closed:
            raise KeyboardInterrupt
        return super().forward(x)


def test_an_interruption_of_the_checks_keeps_the_suite_and_says_so(data: Dataset) -> None:
    network = Closing().eval()
    target = NetworkTarget(network, name="r", digest="d" * 64, input_shape=(1, 8, 8), num_classes=4)

    def close(result: SuiteResult) -> None:
        network.closed = True

    found = judge_network(target, data, BUDGET, PGD, 0, attacked=close)
    assert isinstance(found.result.interruption, KeyboardInterrupt)
    assert found.result.complete
    assert outcome(found.trust, "checks-finished") is CheckOutcome.FAIL
    assert found.trust.verdict is Verdict.DOUBTFUL
    assert found.probes == ()


def test_a_stopped_suite_is_judged_as_far_as_it_went(target: NetworkTarget, data: Dataset) -> None:
    found = judge_network(target, data, BUDGET, PGD, 0, stop=lambda: True)
    assert not found.result.complete
    assert outcome(found.trust, "complete") is CheckOutcome.FAIL
    assert found.robust_accuracy.value is None
    assert "same-answers-after" not in ids(found.trust)


def test_what_an_attack_borrows_must_be_there(target: NetworkTarget, data: Dataset) -> None:
    with pytest.raises(AttackSettingsError):
        judge_network(target, data, BUDGET, parse_attacks("transfer"), 0)
    saved = SavedExamples("other.npz", ({}, ""))
    with pytest.raises(AttackSettingsError):
        judge_network(target, data, BUDGET, parse_attacks("examples:mine.npz"), 0, borrowed=[saved])
    mine = SavedExamples("mine.npz", ({}, "e" * 64))
    found = judge_network(target, data, BUDGET, parse_attacks("examples:mine.npz"), 0, borrowed=[saved, mine])
    assert outcome(found.trust, "made-for-another-network") is CheckOutcome.FAIL
    assert found.trust.verdict is Verdict.BROKEN
    twin = NetworkTarget(Rows().eval(), name="twin", digest="e" * 64, input_shape=(1, 8, 8), num_classes=4)
    lent = judge_network(target, data, BUDGET, parse_attacks("transfer:steps=5"), 0, borrowed=[twin])
    assert lent.result.plans[0].bound["surrogate"] == "e" * 12
    assert lent.robust_accuracy.successes < N
