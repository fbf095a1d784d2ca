"""Every threshold of the probes from both sides: the last case that passes and the first that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.statistics import beyond_chance
from secure_ai.core.trust import Check, CheckOutcome
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.probes.along import _converged, _gradients, _rises, _saturated
from secure_ai.red.evasion.trust.probes.ascent import Trace
from secure_ai.red.evasion.trust.probes.binarisation import binarisation
from secure_ai.red.evasion.trust.probes.forward import random_without_eot
from secure_ai.red.evasion.trust.probes.longer import longer_attack
from secure_ai.red.evasion.trust.probes.one_step import _leaking, _overfitting
from secure_ai.red.evasion.trust.probes.probe import drawn
from secure_ai.red.evasion.trust.probes.surface import gradient_matches_change, jumps_nearby, step_function
from secure_ai.red.evasion.trust.probes.unbounded import unbounded_attack

LINF = PerturbationBudget("linf", 0.05)
PASS, FAIL = CheckOutcome.PASS, CheckOutcome.FAIL
MOST_BY_CHANCE = {n: max(k for k in range(n + 1) if not beyond_chance(k, n)) for n in (20, 64)}


class Score(nn.Module):
    """Two classes: class 0 where the score of the image (N,) is below 0."""

    def __init__(self, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.score = score

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        return torch.stack([-score / 2, score / 2], dim=1)


def asked(
    probing: Callable[..., Check], network: nn.Module, x: Tensor, y: Tensor, *more: Any, classes: int = 2
) -> CheckOutcome:
    shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    target = NetworkTarget(network, name="t", digest="d" * 64, input_shape=shape, num_classes=classes)
    with target.attacked():
        return probing(drawn(target, x, y, LINF, 0), *more).outcome


def split(n: int, marked: int) -> Tensor:
    """Images of one grey, of which `marked` have a first pixel of 0.6 by which a network can tell them."""
    x = torch.full((n, 1, 4, 4), 0.5)
    x[:marked, 0, 0, 0] = 0.6
    return x


def is_marked(x: Tensor) -> Tensor:
    return x[:, 0, 0, 0] - x[:, 0, 1, 1] > 0.05


@pytest.mark.parametrize(("extra", "outcome"), [(0, PASS), (1, FAIL)])
def test_step_function_by_the_number_of_images(extra: int, outcome: CheckOutcome) -> None:
    stuck = MOST_BY_CHANCE[20] + extra
    network = Score(lambda x: torch.where(is_marked(x), -1.0, x.flatten(1).mean(dim=1) - 1))
    assert asked(step_function, network, split(20, stuck), torch.zeros(20, dtype=torch.int64)) is outcome


@pytest.mark.parametrize(("times", "extra", "outcome"), [(2.6, 9, PASS), (3.5, 1, FAIL), (3.5, 0, PASS)])
def test_jumps_nearby_by_their_size_and_number(times: float, extra: int, outcome: CheckOutcome) -> None:
    """The margin's gradient has l1 norm 1, so a move of 2e-4 allows a change of 3 times 2e-4."""
    jumping = MOST_BY_CHANCE[20] + extra
    network = Score(
        lambda x: x.flatten(1).mean(dim=1) - 1 + 2e-4 * times * (is_marked(x) & (x[:, 0, 1, 1] != 0.5)).float()
    )
    assert asked(jumps_nearby, network, split(20, jumping), torch.zeros(20, dtype=torch.int64)) is outcome


@pytest.mark.parametrize(
    ("ratio", "true", "outcome"),
    [(0.55, 10, PASS), (0.45, 10, FAIL), (1.9, 10, PASS), (2.1, 10, FAIL), (1.0, 9, FAIL), (-1.0, 10, FAIL)],
)
def test_gradient_matches_change_by_ratio_and_share(ratio: float, true: int, outcome: CheckOutcome) -> None:
    """On `true` of 20 images the margin changes by `ratio` times what its gradient says, on the others by nothing."""

    def score(x: Tensor) -> Tensor:
        marked = is_marked(x)
        change = x.flatten(1).mean(dim=1) - torch.where(marked, 0.5 + 0.1 / 16, 0.5)
        return change - 1 + (change * torch.where(marked, ratio - 1, -1.0)).detach()

    y = torch.zeros(20, dtype=torch.int64)
    assert asked(gradient_matches_change, Score(score), split(20, true), y) is outcome


def trace(margin: Tensor, zero: int = 0, nonfinite: int = 0) -> Trace:
    """An ascent with these margins (S + 1, N), and so many gradients that are zero or not finite."""
    steps, n = len(margin) - 1, margin.shape[1]
    marks = [(torch.arange(steps * n) < count).view(steps, n) for count in (zero, nonfinite)]
    return Trace(margin, *marks)


@pytest.mark.parametrize(
    ("zero", "nonfinite", "outcome"), [(10, 0, PASS), (11, 0, FAIL), (0, 11, FAIL), (5, 5, PASS), (6, 5, FAIL)]
)
def test_gradients_along_an_attack_by_the_share_that_is_blind(zero: int, nonfinite: int, outcome: CheckOutcome) -> None:
    assert _gradients(trace(torch.zeros(11, 20), zero, nonfinite)).outcome is outcome  # 200 gradients


@pytest.mark.parametrize(("extra", "outcome"), [(0, PASS), (1, FAIL)])
def test_counts_that_chance_allows(extra: int, outcome: CheckOutcome) -> None:
    """The same count decides where a loss never rises, where it is saturated, and where one step repairs."""
    count = MOST_BY_CHANCE[64] + extra
    chosen = torch.arange(64) < count
    rising = torch.where(chosen, 0.0, 1.0) * torch.linspace(-1, -0.5, 11)[:, None] - 1
    assert _rises(trace(rising)).outcome is outcome
    of_margin, nothing = torch.ones(64, 1, 2, 2), torch.zeros(64, 1, 2, 2)
    of_cross_entropy = torch.where(chosen[:, None, None, None], nothing, of_margin)
    assert _saturated(of_margin, of_cross_entropy).outcome is outcome
    assert _saturated(of_cross_entropy, of_cross_entropy).outcome is PASS  # no gradient at all is another check's
    assert _leaking(~chosen, torch.ones(64, dtype=torch.bool)).outcome is outcome
    assert _leaking(torch.ones(64, dtype=torch.bool), ~chosen).outcome is PASS


@pytest.mark.parametrize(("unsettled", "late", "outcome"), [(10, 0.06, PASS), (11, 0.06, FAIL), (20, 0.04, PASS)])
def test_converged_by_the_rise_of_the_last_steps(unsettled: int, late: float, outcome: CheckOutcome) -> None:
    """100 steps; `unsettled` of 20 survivors make the fraction `late` of their whole rise in the last 10."""
    rise = torch.cat((torch.linspace(0, 1 - late, 91), torch.linspace(1 - late, 1, 11)[1:]))
    settled = torch.cat((torch.linspace(0, 1, 51), torch.ones(50)))
    margin = torch.where(torch.arange(20) < unsettled, rise[:, None], settled[:, None]) - 2
    assert _converged(trace(margin)).outcome is outcome
    broken = torch.cat((margin, rise[:, None].repeat(1, 30) + 1), dim=1)  # what broke is not asked
    assert _converged(trace(broken)).outcome is outcome


@pytest.mark.parametrize(
    ("lowest", "after_noise", "outcome"), [(65, 80, PASS), (64, 80, FAIL), (80, 75, PASS), (80, 74, FAIL)]
)
def test_one_step_by_how_many_fewer_are_right(lowest: int, after_noise: int, outcome: CheckOutcome) -> None:
    """Of 100 images 80 are right at the full step: at most 15 fewer on the way there, 5 fewer after noise."""
    right = torch.arange(100)
    shorter = [right < 80] * 3 + [right < lowest] + [right < 80] * 3
    assert _overfitting(right < 80, shorter, right < after_noise).outcome is outcome


@pytest.mark.parametrize(("apart", "outcome"), [(0.0, PASS), (5e-6, PASS), (5e-5, FAIL)])
def test_random_by_how_far_calls_are_apart(apart: float, outcome: CheckOutcome) -> None:
    calls = iter(range(100))
    network = Score(lambda x: x.flatten(1).mean(dim=1) - 2 + apart * (next(calls) == 3))  # the last of four calls
    assert asked(random_without_eot, network, split(20, 0), torch.zeros(20, dtype=torch.int64), ()) is outcome


def with_gradient_on(share: float) -> nn.Module:
    """Right where the mean is on the image's side of 0.5; the gradient of the rest of the 20 pixels is cut."""
    seen = torch.arange(20).view(1, 4, 5) < 20 * share
    return Score(lambda x: torch.where(seen, x, x.detach()).flatten(1).mean(dim=1) - 0.5 - 1e-4)


@pytest.mark.parametrize(
    ("share", "two_classes", "outcome"),
    [
        (1.0, True, PASS),  # all images become one grey: one class is left at eps 0.5, none at eps 1
        (0.75, True, FAIL),  # more than one class is left at eps 0.5, none at eps 1
        (0.25, False, FAIL),  # the one class may be left at eps 0.5, but not at eps 1
        (0.75, False, PASS),
    ],
)
def test_unbounded_attack_at_both_radii(share: float, two_classes: bool, outcome: CheckOutcome) -> None:
    y = torch.arange(20) % 2 if two_classes else torch.zeros(20, dtype=torch.int64)
    x = y.float()[:, None, None, None].repeat(1, 1, 4, 5)
    assert asked(unbounded_attack, with_gradient_on(share), x, y) is outcome


class ByOneLoss(nn.Module):
    """Class 0 up to where the mean of the image falls below 0.47; only one loss has a gradient that leads there."""

    def __init__(self, loss: str) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(dim=1)
        over, zero = nn.functional.relu(100 * (0.47 - mean)), torch.zeros_like(mean)
        if self.loss == "margin":  # the ratio is (a / (2 a - 0.005)) < 0, which rises with a
            away = mean - 0.47
            return 1e5 * torch.stack([zero, -away, 0.005 - 2 * away, zero - 1], dim=1)
        if self.loss == "cross_entropy":  # only the third logit has a gradient, to the ratio the wrong one
            return torch.stack([zero, over - 1, -mean - 3, zero - 4], dim=1)
        return 1e4 * torch.stack([zero, over - 1, mean - 3, zero - 4], dim=1)  # the cross-entropy is saturated


@pytest.mark.parametrize("loss", ["margin", "cross_entropy", "dlr"])
def test_the_longer_attack_climbs_each_loss(loss: str) -> None:
    x, y = torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.int64)
    assert asked(longer_attack, ByOneLoss(loss), x, y, x, y, np.ones(20, dtype=bool), classes=4) is FAIL


def test_the_longer_attack_takes_a_hundred_steps_from_each_of_three_starts() -> None:
    x, y = torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.int64)
    network = Score(lambda x: x.flatten(1).mean(dim=1) - 2)
    target = NetworkTarget(network, name="t", digest="d" * 64, input_shape=(1, 4, 4), num_classes=2)
    with target.attacked():
        probe = drawn(target, x, y, LINF, 0)
        target.passes.forward = target.passes.backward = 0
        assert longer_attack(probe, x, y, np.ones(20, dtype=bool)).outcome is PASS
    assert target.passes.forward == 20 * 3 * 101
    assert target.passes.backward == 20 * 3 * 100


def forgetful(plan: AttackPlan, misses: int, calls: list[int]) -> AttackPlan:
    """The plan's attack, which returns the clean image on its first `misses` calls."""

    def attack(target: Any, x: Tensor, y: Tensor, **more: Any) -> Tensor:
        calls.append(len(x))
        return x if len(calls) <= misses else plan.entry.attack(target, x, y, **more)

    return replace(plan, entry=replace(plan.entry, attack=attack))


class Rings(nn.Module):
    """A linear layer, told apart from its features."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(36, 2)
        with torch.no_grad():
            self.last.weight.copy_(torch.randn((2, 36), generator=torch.Generator().manual_seed(0)))

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(x))
        return logits


@pytest.mark.parametrize(
    ("images", "missed", "outcome"),
    [(24, 1, PASS), (24, 2, FAIL), (8, 0, PASS), (7, 0, CheckOutcome.NOT_RUN), (8, 1, FAIL)],
)
def test_binarisation_by_the_share_found_of_enough_images(images: int, missed: int, outcome: CheckOutcome) -> None:
    """0.95 of 24 is 22.8; fewer than 8 images are no test."""
    network, calls = Rings(), list[int]()
    x = 0.2 + 0.6 * torch.rand((images, 1, 6, 6), generator=torch.Generator().manual_seed(1))
    y = network(x).argmax(dim=1)
    plans = [forgetful(plan, missed, calls) for plan in parse_attacks("pgd:steps=10")]
    assert asked(binarisation, network, x, y, plans) is outcome
    assert len(calls) == images  # every image gives a test
