"""The binarisation test: an example that exists by construction, and attacks that find it or do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.trust import Check, CheckOutcome
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.probes.binarisation import _border, _random_success, _readout, binarisation
from secure_ai.red.evasion.trust.probes.probe import Probe, drawn

LINF = PerturbationBudget("linf", 0.05)


class WithFeatures(nn.Module):
    """The last layer told apart from the rest."""

    def __init__(self, network: Any, prepare: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.body, self.last, self.prepare = network[:-1], network[-1], prepare

    def features(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(self.prepare(x))
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(x))
        return logits


def probe_of(
    case: Any, target_of: Callable[..., NetworkTarget], prepare: Callable[[Tensor], Tensor] = lambda x: x
) -> Probe:
    target = target_of(WithFeatures(case.target.network, prepare).eval(), case.x, 5)
    return drawn(target, case.x, case.y, LINF, 0)


def judged(probe: Probe, attacks: str = "apgd-ce:steps=20") -> Check:
    with probe.target.attacked():
        return binarisation(probe, parse_attacks(attacks, probe.budget.norm))


def test_an_attack_on_an_honest_network_finds_what_is_there(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    probe = probe_of(cnn_case(40), target_of)
    for attacks in ("apgd-ce:steps=20", "pgd:steps=20"):
        found = judged(probe, attacks)
        assert found.outcome is CheckOutcome.PASS, found.evidence


def test_a_blind_attack_fails_the_test(cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]) -> None:
    case = cnn_case(40)
    for prepare in (torch.detach, lambda x: torch.round(50 * x) / 50):
        assert judged(probe_of(case, target_of, prepare)).outcome is CheckOutcome.FAIL


def test_the_example_is_inside_the_budget_and_only_it_is_of_the_other_class(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    probe = probe_of(cnn_case(40), target_of)
    tests = 0
    for image in probe.x[:10].split(1):
        draw, again = (torch.Generator().manual_seed(3) for _ in range(2))
        readout = _readout(probe, image, draw)
        if readout is None:
            continue
        tests += 1
        torch.rand((200, 100), generator=again)  # the inner points were drawn first
        special = _border(probe, image, again)
        assert float((special - image).abs().max()) <= LINF.eps + 1e-6
        with torch.no_grad():
            assert float(readout(probe.target.features(special))) > 0
            assert float(readout(probe.target.features(image))) < 0
    assert tests >= 5


def test_an_example_that_random_points_find_is_no_test(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    probe = probe_of(cnn_case(40), target_of)
    image = probe.x[:1]
    draw = torch.Generator().manual_seed(3)
    readout = _readout(probe, image, draw)
    assert readout is not None
    assert not _random_success(probe, image, readout, draw)
    easy = type(readout)(readout.weight, readout.centre, readout.threshold - 100)
    assert _random_success(probe, image, easy, draw)


def test_what_cannot_be_tested_is_not_run(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(40)
    assert judged(probe_of(case, target_of), "square:query_budget=5").outcome is CheckOutcome.NOT_RUN
    without = drawn(case.target, case.x, case.y, LINF, 0)
    assert judged(without).outcome is CheckOutcome.NOT_RUN
    assert "features" in judged(without).evidence
    few = probe_of(case, target_of)
    few = Probe(few.target, few.x[:5], few.y[:5], few.logits[:5], few.correct[:5], LINF, 0)
    assert judged(few).outcome is CheckOutcome.NOT_RUN


def test_features_from_further_inside_are_not_run(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    """As torchvision's VGG names its convolutions: what follows them could cut every gradient and be left out."""
    case = cnn_case(40)

    class Inside(WithFeatures):
        def features(self, x: Tensor) -> Tensor:
            found: Tensor = self.body[:2](x)  # the first convolution only
            return found

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.last(self.body(x))
            return logits

    target = target_of(Inside(case.target.network).eval(), case.x, 5)
    found = judged(drawn(target, case.x, case.y, LINF, 0))
    assert found.outcome is CheckOutcome.NOT_RUN
    assert "linear layer" in found.evidence


def test_random_features_are_compared_under_the_same_draws(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    def noisy(x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn_like(x)

    found = judged(probe_of(cnn_case(40), target_of, noisy))
    assert found.outcome is not CheckOutcome.NOT_RUN, found.evidence


def test_features_that_raise_are_not_run(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cnn_case(40)
    probe = probe_of(case, target_of)

    def broken(x: Tensor) -> Tensor:
        raise ValueError("no")

    monkeypatch.setattr(probe.target.network, "features", broken)
    assert judged(probe).outcome is CheckOutcome.NOT_RUN
