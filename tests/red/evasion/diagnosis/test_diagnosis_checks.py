"""Each probe on functions whose answer is known, with its negative control."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.errors import TargetError
from secure_ai.core.trust import Check, CheckOutcome
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.math.losses import cross_entropy, margin
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.probes.along import steps_of
from secure_ai.red.evasion.trust.probes.ascent import ascend, survivors
from secure_ai.red.evasion.trust.probes.diagnose import diagnose
from secure_ai.red.evasion.trust.probes.longer import longer_attack
from secure_ai.red.evasion.trust.probes.plain_pgd import pgd_falls_short
from secure_ai.red.evasion.trust.probes.probe import drawn

LINF = PerturbationBudget("linf", 0.05)
IDS = [
    "random-without-eot",
    "optimises-inside",
    "step-function",
    "jumps-nearby",
    "gradient-matches-change",
    "gradients-along-attack",
    "saturated-loss",
    "loss-rises",
    "converged",
    "unbounded-attack",
    "one-step-overfitting",
    "label-leaking",
    "pgd-falls-short",
    "longer-attack",
    "transfer-beats-suite",
    "binarisation",
]


OF_SURVIVORS = IDS[-4:-1]


def checks_of(
    target: NetworkTarget, x: Tensor, y: Tensor, budget: PerturbationBudget = LINF, **more: Any
) -> dict[str, Check]:
    more = {"attacks": parse_attacks("apgd-ce:steps=20"), **more}
    return {check.id: check for check in diagnose(target, x, y, budget, 0, **more)}


def alone(
    probing: Callable[..., Check],
    target: NetworkTarget,
    x: Tensor,
    y: Tensor,
    budget: PerturbationBudget,
    robust: np.ndarray,
) -> Check:
    """One probe of those that ask about a suite's outcome, without the others."""
    with target.attacked():
        return probing(drawn(target, x, y, budget, 0), x, y, robust)


def fails(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.outcome is CheckOutcome.FAIL}


class Around(nn.Module):
    """A function of the inner network's logits or images."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.network, x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_an_honest_network_passes_every_check_that_can_run(cnn_case: Callable[..., Any], norm: Any) -> None:
    case = cnn_case(100)
    eps = {"linf": 0.02, "l2": 0.1, "l1": 0.8}[norm]
    found = checks_of(case.target, case.x, case.y, PerturbationBudget(norm, eps))
    assert list(found) == [name for name in IDS if name not in OF_SURVIVORS]
    assert fails(found) == set()
    not_run = {name for name, check in found.items() if check.outcome is CheckOutcome.NOT_RUN}
    assert not_run == {"binarisation"}


@pytest.mark.parametrize("budget", [PerturbationBudget("l0", 3), PerturbationBudget("linf", 0.0)])
def test_what_needs_a_ball_does_not_run_without_one(cnn_case: Callable[..., Any], budget: PerturbationBudget) -> None:
    case = cnn_case(40)
    found = checks_of(case.target, case.x, case.y, budget, robust=np.ones(40, dtype=bool))
    assert fails(found) == set()
    for identifier in ("converged", "longer-attack", "pgd-falls-short"):
        assert found[identifier].outcome is CheckOutcome.NOT_RUN
    assert found["unbounded-attack"].outcome is CheckOutcome.PASS


def by_content(network: nn.Module, x: Tensor) -> Tensor:
    """Noise that the image itself seeds: the same for every call, another for every point."""
    seeds = [int(1e6 * float(image.double().sum())) for image in x.detach()]
    noise = [torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return network(x + 0.02 * torch.stack(noise))  # type: ignore[no-any-return]


def test_noise_by_the_content_of_an_image_is_found(cnn_case: Callable[..., Any], target_of: Any) -> None:
    case = cnn_case(60)
    network = Around(case.target.network, by_content)
    noisy = target_of(network, case.x, 5)
    found = checks_of(noisy, case.x, noisy.predict(case.x))
    assert found["random-without-eot"].outcome is CheckOutcome.PASS
    assert found["jumps-nearby"].outcome is CheckOutcome.FAIL


def test_a_network_that_is_never_right_is_not_judged(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(30)
    found = checks_of(case.target, case.x, (case.y + 1) % 5)
    assert found["unbounded-attack"].outcome is CheckOutcome.NOT_RUN
    assert found["gradient-matches-change"].outcome is CheckOutcome.NOT_RUN
    assert fails(found) == set()


def _with_backward(network: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        network(point).sum().backward()
    answer: Tensor = network(x)
    return answer


def _with_grad(network: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        point = x.detach().clone()
        point.requires_grad = True
        torch.autograd.grad(network(point).sum(), point)
    answer: Tensor = network(x)
    return answer


@pytest.mark.parametrize("call", [_with_backward, _with_grad])
def test_gradients_taken_inside_the_forward_pass_are_seen(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget], call: Callable[..., Tensor]
) -> None:
    case = cnn_case(40)
    found = checks_of(target_of(Around(case.target.network, call), case.x, 5), case.x, case.y)
    assert fails(found) == {"optimises-inside"}


def test_switching_gradients_off_inside_is_no_optimisation(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    def call(network: nn.Module, x: Tensor) -> Tensor:
        torch.zeros(1).requires_grad_(False)
        torch.zeros(1).requires_grad_(requires_grad=False)  # type: ignore[call-arg]  # the stub calls it `mode`
        answer: Tensor = network(x)
        return answer

    case = cnn_case(40)
    found = checks_of(target_of(Around(case.target.network, call), case.x, 5), case.x, case.y)
    assert fails(found) == set()


def test_a_network_that_draws_is_random_and_the_caller_s_randomness_is_left_alone(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(40)
    noisy = target_of(Around(case.target.network, lambda n, x: n(x) + 1e-2 * torch.randn(())), case.x, 5)
    before = torch.random.get_rng_state()
    first, second = checks_of(noisy, case.x, case.y), checks_of(noisy, case.x, case.y)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first == second
    assert "random-without-eot" in fails(first)
    averaging = checks_of(noisy, case.x, case.y, attacks=parse_attacks("apgd-ce:steps=5:eot_samples=2"))
    assert averaging["random-without-eot"].outcome is CheckOutcome.PASS
    assert "apgd-ce" in averaging["random-without-eot"].evidence


def test_saturation_is_told_from_a_network_without_gradients(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(60)
    scaled = target_of(Around(case.target.network, lambda n, x: 1e6 * n(x)), case.x, 5)
    blind_at_clean_images = {"one-step-overfitting"}  # after noise, some images are near enough to a boundary
    assert fails(checks_of(scaled, case.x, case.y)) - blind_at_clean_images == {"saturated-loss"}
    cut = target_of(Around(case.target.network, lambda n, x: n(x.detach())), case.x, 5)
    found = fails(checks_of(cut, case.x, case.y))
    assert {"gradients-along-attack", "loss-rises", "unbounded-attack"} <= found
    assert "saturated-loss" not in found


def _rounded(levels: int) -> Callable[[nn.Module, Tensor], Tensor]:
    def call(network: nn.Module, x: Tensor) -> Tensor:
        answer: Tensor = network(torch.round(x * levels) / levels)
        return answer

    return call


def test_rounded_pixels_are_seen_and_eight_bits_too(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(60)
    for levels in (7, 255):
        x = torch.round(case.x * levels) / levels
        network = Around(case.target.network, _rounded(levels))
        y = case.target.network(x).argmax(dim=1)
        assert "step-function" in fails(checks_of(target_of(network, x, 5), x, y))


def test_a_gradient_that_points_elsewhere_is_seen(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(60)
    decoy = torch.randn((100, 5), generator=torch.Generator().manual_seed(2))
    network = Around(case.target.network, lambda n, x: n(x.detach()) + 1e-2 * (x - x.detach()).flatten(1) @ decoy)
    found = fails(checks_of(target_of(network, case.x, 5), case.x, case.y))
    assert "gradient-matches-change" in found


class Wave(nn.Module):
    """Right or wrong by the phase p = 0.6 w·(x - 0.5) / (eps |w|_1): right where sin²(πp) is small.

    A step of eps along the gradient moves the phase by exactly 0.6.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(64, generator=torch.Generator().manual_seed(4)))
        self.scale = 0.6 / (eps * float(self.get_buffer("weight").abs().sum()))

    def image(self, phase: float) -> Tensor:
        weight = self.get_buffer("weight")
        return (0.5 + weight * phase / (self.scale * weight.square().sum())).view(1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        phase = self.scale * ((x.flatten(1) - 0.5) @ self.get_buffer("weight"))
        score = 1 - 2.2 * torch.sin(math.pi * phase) ** 2
        return torch.stack([score / 2, -score / 2], dim=1)


def test_fitting_to_one_step_is_seen_on_the_way_and_leaking_by_what_it_repairs(
    target_of: Callable[..., NetworkTarget],
) -> None:
    wave = Wave(0.05)
    right, wrong = wave.image(0.2), wave.image(0.4)  # a step ends at 0.8 and 1.0: both right
    x, y = torch.cat([right] * 30 + [wrong] * 10), torch.zeros(40, dtype=torch.int64)
    found = checks_of(target_of(wave, x, 2), x, y)
    assert found["one-step-overfitting"].outcome is CheckOutcome.FAIL
    assert "40 of 40 images" in found["one-step-overfitting"].evidence
    assert found["label-leaking"].outcome is CheckOutcome.FAIL
    assert "40 of 40 images" in found["label-leaking"].evidence
    assert "30 before" in found["label-leaking"].evidence
    honest = checks_of(target_of(wave, x, 2), x, y, PerturbationBudget("linf", 0.02))  # moves the phase by 0.24
    assert honest["one-step-overfitting"].outcome is CheckOutcome.PASS
    assert honest["label-leaking"].outcome is CheckOutcome.PASS


def _masked_on_the_grid(network: nn.Module, x: Tensor) -> Tensor:
    """No gradient for pixels of 8 bits, that is at clean images, and the true one everywhere else."""
    on_grid = (255 * x - torch.round(255 * x)).abs() < 1e-3
    answer: Tensor = network(torch.where(on_grid, x.detach(), x))
    return answer


def test_gradients_that_are_masked_only_at_clean_images_are_seen_by_noise_before_the_step(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(60)
    x = torch.round(255 * case.x) / 255
    y = case.target.network(x).argmax(dim=1)
    masked = checks_of(target_of(Around(case.target.network, _masked_on_the_grid), x, 5), x, y)
    assert masked["one-step-overfitting"].outcome is CheckOutcome.FAIL
    assert "60 of 60 images" in masked["one-step-overfitting"].evidence
    assert checks_of(case.target, x, y)["one-step-overfitting"].outcome is CheckOutcome.PASS


def test_the_longer_attack_judges_the_suite_s_own_count(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(100, scale=3.0)
    wide = PerturbationBudget("linf", 0.2)
    none_found = alone(longer_attack, case.target, case.x, case.y, wide, np.ones(100, dtype=bool))
    assert none_found.outcome is CheckOutcome.FAIL
    assert "of 64 images" in none_found.evidence
    alive = torch.arange(100)
    for loss in (margin, cross_entropy):
        start = case.x[alive]
        kept = survivors(case.target, start, case.y[alive], start=start, budget=LINF, steps=150, loss=loss)
        alive = alive[kept]
    truly = np.isin(np.arange(100), alive.numpy())
    assert truly.any()
    assert alone(longer_attack, case.target, case.x, case.y, LINF, truly).outcome is CheckOutcome.PASS
    nobody = alone(longer_attack, case.target, case.x, case.y, LINF, np.zeros(100, dtype=bool))
    assert nobody.outcome is CheckOutcome.PASS


@pytest.mark.parametrize(
    ("left", "fails_short"),
    [(100, False), (86, False), (84, True), (50, True), (16, True), (15, False), (0, False)],
)
def test_pgd_falls_short_where_it_misses_much_and_much_is_left(
    cnn_case: Callable[..., Any], left: int, fails_short: bool
) -> None:
    """A budget at which PGD breaks nobody, and a suite that is said to leave `left` of 100 images right."""
    case, tiny = cnn_case(100), PerturbationBudget("linf", 1e-5)
    found = alone(pgd_falls_short, case.target, case.x, case.y, tiny, np.arange(100) < left)
    assert found.outcome is (CheckOutcome.FAIL if fails_short else CheckOutcome.PASS), found.evidence
    assert f" {100 - left} of {100 - left} images" in found.evidence


@pytest.mark.parametrize(("left", "fails_short"), [(840, True), (860, False), (500, True)])
def test_pgd_falls_short_by_its_share_of_all_images_of_which_it_is_shown_128(
    cnn_case: Callable[..., Any], left: int, fails_short: bool
) -> None:
    case, tiny = cnn_case(1000), PerturbationBudget("linf", 1e-5)
    found = alone(pgd_falls_short, case.target, case.x, case.y, tiny, np.arange(1000) < left)
    assert found.outcome is (CheckOutcome.FAIL if fails_short else CheckOutcome.PASS), found.evidence
    assert "128 of 128 images" in found.evidence
    assert f"{(1000 - left) / 10:.1f} points" in found.evidence


def test_all_probes_that_ask_about_the_suite_s_outcome_are_given_it(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(60, scale=3.0)
    found = checks_of(case.target, case.x, case.y, PerturbationBudget("linf", 0.2), robust=np.ones(60, dtype=bool))
    assert "60 of 60 images" in found["longer-attack"].evidence
    assert "100.0 %" in found["pgd-falls-short"].evidence
    assert "of 60 images" in found["transfer-beats-suite"].evidence


def test_pgd_does_not_fall_short_of_what_it_breaks_itself_or_of_errors(cnn_case: Callable[..., Any]) -> None:
    case, half = cnn_case(100), np.arange(100) < 50
    wide = PerturbationBudget("linf", 0.5)
    broken = alone(pgd_falls_short, case.target, case.x, case.y, wide, half)
    wrong_labels = torch.where(torch.from_numpy(half), case.y, (case.y + 1) % 5)
    tiny = PerturbationBudget("linf", 1e-5)
    errors = alone(pgd_falls_short, case.target, case.x, wrong_labels, tiny, half)
    for found in (broken, errors):
        assert found.outcome is CheckOutcome.PASS
        assert " 0 of 50 images" in found.evidence


def test_an_attack_of_tiny_steps_has_not_converged(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(100)
    for size, outcome in ((0.01, CheckOutcome.FAIL), (0.0, CheckOutcome.PASS)):
        suite = parse_attacks(f"pgd:steps=20:step_size_rel={size}")
        found = checks_of(case.target, case.x, case.y, PerturbationBudget("linf", 0.01), attacks=suite)["converged"]
        assert found.outcome is outcome, found.evidence
        assert "4 of 20 steps" in found.evidence


def test_the_trace_has_the_steps_of_the_suite_within_limits() -> None:
    assert steps_of(parse_attacks("fgsm,square")) == (40, 2.5)
    assert steps_of(parse_attacks("pgd:steps=40,apgd-ce:steps=60")) == (60, 2.5)
    assert steps_of(parse_attacks("pgd:steps=5000:step_size_rel=0.5")) == (100, 50.0)


def test_an_ascent_finds_the_optimum_of_a_linear_network(linear_case: Callable[..., Any]) -> None:
    optima: dict[Norm, float] = {"linf": 0.05, "l2": 0.5, "l1": 0.3}
    for norm, optimum in optima.items():
        case = linear_case(norm, optimum)
        for eps, all_broken in ((1.02 * optimum, True), (0.98 * optimum, False)):
            budget = PerturbationBudget(norm, eps)
            left = survivors(case.target, case.x, case.y, start=case.x, budget=budget, steps=100, loss=margin)
            trace = ascend(case.target, case.x, case.y, start=case.x, budget=budget, steps=100, loss=margin)
            assert bool(left.any()) is not all_broken
            assert torch.equal(trace.broken, ~left)


def test_the_network_is_left_as_it_was_and_a_hostile_one_is_an_error(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(20)
    case.target.network.train()
    checks_of(case.target, case.x, case.y)
    assert case.target.network.training
    assert all(parameter.requires_grad for parameter in case.target.network.parameters())
    nan = target_of(Around(case.target.network, lambda n, x: n(x) * float("nan")), case.x, 5)
    with pytest.raises(TargetError):
        checks_of(nan, case.x, case.y)


def test_the_cost_stays_within_what_is_stated(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(1000)
    cut = target_of(Around(case.target.network, lambda n, x: n(x.detach())), case.x, 5)
    checks_of(cut, case.x, case.y, robust=np.ones(1000, dtype=bool), attacks=parse_attacks("apgd-ce"))
    assert 20_000 < cut.passes.forward <= 75_000
    assert cut.passes.backward <= 60_000
