"""FGSM and PGD against linear models with a known answer, against foolbox, and against their own laws."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.errors import AttackSettingsError
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.noise import noise
from secure_ai.red.evasion.attacks.pgd import fgsm, pgd, unstopped
from secure_ai.red.evasion.math.losses import cross_entropy
from secure_ai.red.evasion.math.projections import distance, project
from secure_ai.red.evasion.suite.verify import allowed_distance, measured_distance

ATTACKS: dict[str, Callable[..., Tensor]] = {"fgsm": fgsm, "pgd": pgd}
OPTIMA: list[tuple[Norm, float]] = [("linf", 0.1), ("l2", 0.3), ("l1", 0.2)]


def attack(
    name: str, case: Any, budget: PerturbationBudget, seed: int = 0, active: Tensor | None = None, **settings: Any
) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    run = {**ATTACKS, "noise": noise}[name]
    with case.target.attacked():
        found: Tensor = run(case.target, case.x, case.y, budget=budget, generator=draw, active=active, **settings)
    assert bool((measured_distance(found, case.x, budget) <= allowed_distance(budget)).all())
    return found


def broken(case: Any, x_adv: Tensor) -> Tensor:
    return case.target.predict(x_adv) != case.y  # type: ignore[no-any-return]  # a Case is built at run time


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
@pytest.mark.parametrize(("norm", "optimum"), OPTIMA)
def test_linear_model_falls_just_above_its_distance_and_not_below(
    linear_case: Callable[..., Any], name: str, norm: Norm, optimum: float
) -> None:
    case = linear_case(norm, optimum)
    settings: dict[str, Any] = (
        {"step_size_rel": 0.25} if (name, norm) == ("pgd", "l2") else {}
    )  # short steps turn slowly on a sphere
    above = attack(name, case, PerturbationBudget(norm, 1.01 * optimum), **settings)
    below = attack(name, case, PerturbationBudget(norm, 0.99 * optimum), **settings)
    assert bool(broken(case, above).all())
    assert not bool(broken(case, below).any())


def test_linear_model_falls_to_the_least_number_of_values(linear_case: Callable[..., Any]) -> None:
    case = linear_case("l0", 9)
    assert bool(broken(case, attack("fgsm", case, PerturbationBudget("l0", 9))).all())
    assert not bool(broken(case, attack("fgsm", case, PerturbationBudget("l0", 8))).any())


@pytest.mark.parametrize(("norm", "optimum"), OPTIMA)
def test_momentum_finds_the_optimum_too(linear_case: Callable[..., Any], norm: Norm, optimum: float) -> None:
    case = linear_case(norm, optimum)
    assert bool(broken(case, attack("pgd", case, PerturbationBudget(norm, 1.02 * optimum), momentum=0.75)).all())


def test_noise_does_not_find_what_the_gradient_finds(linear_case: Callable[..., Any]) -> None:
    case = linear_case("linf", 0.1)
    assert not bool(broken(case, attack("noise", case, PerturbationBudget("linf", 0.15), draws=20)).any())
    assert bool(broken(case, attack("fgsm", case, PerturbationBudget("linf", 0.15))).all())


def test_noise_breaks_a_model_without_any_margin(linear_case: Callable[..., Any]) -> None:
    case = linear_case("linf", 1e-5)
    one = broken(case, attack("noise", case, PerturbationBudget("linf", 0.1)))
    many = broken(case, attack("noise", case, PerturbationBudget("linf", 0.1), draws=30))
    assert bool(many.all())
    assert bool((many >= one).all())
    case.target.passes.forward = 0
    attack("noise", case, PerturbationBudget("linf", 0.1), draws=30)
    assert case.target.passes.forward < 10 * len(case.x), "a broken sample gets no more draws"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_pgd_costs_steps_forward_and_backward_and_one_forward(linear_case: Callable[..., Any], norm: Norm) -> None:
    """The cost of a sample that is never broken; EVIDENCE: a protocol's name means its protocol."""
    case = linear_case(norm, 0.3)
    budget, n = PerturbationBudget(norm, 0.2), len(case.x)
    attack("pgd", case, budget, steps=40)
    assert (case.target.passes.forward, case.target.passes.backward) == (41 * n, 40 * n)
    attack("pgd", case, budget, steps=5, restarts=3, eot_samples=2)
    assert (case.target.passes.forward, case.target.passes.backward) == ((41 + 36) * n, (40 + 30) * n)


@pytest.mark.parametrize("labels", ["true", "predicted"])
def test_fgsm_costs_one_forward_and_one_backward(linear_case: Callable[..., Any], labels: str) -> None:
    case = linear_case("linf", 0.3)
    attack("fgsm", case, PerturbationBudget("linf", 0.2), labels=labels)
    assert (case.target.passes.forward, case.target.passes.backward) == (len(case.x), len(case.x))


def test_broken_samples_leave_at_once(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case()
    x_adv = attack("pgd", case, PerturbationBudget("linf", 0.9), steps=100)
    assert bool(broken(case, x_adv).all())
    once = case.target.passes.backward
    assert once < 20 * len(case.x)
    attack("pgd", case, PerturbationBudget("linf", 0.9), steps=100, restarts=50)
    assert case.target.passes.backward == 2 * once, "a broken sample starts no other run"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_failure_is_the_strongest_attempt_not_the_clean_image(cnn_case: Callable[..., Any], norm: Norm) -> None:
    case = cnn_case(scale=100.0)
    budget = PerturbationBudget(norm, {"linf": 0.004, "l2": 0.02, "l1": 0.05}[norm])
    last = attack("pgd", case, budget, steps=1, step_size_rel=1.0, restarts=1)
    best = attack("pgd", case, budget, steps=10, restarts=3)
    kept = ~broken(case, best)
    assert int(kept.sum()) > 20
    with torch.no_grad():
        clean, single, loss = (cross_entropy(case.target.logits(z), case.y)[kept] for z in (case.x, last, best))
    assert bool((best != case.x).flatten(1).any(dim=1).all())
    assert bool((loss >= clean).all())
    assert float((loss - single).mean()) >= 0


@pytest.mark.parametrize("name", ["fgsm", "pgd", "noise"])
def test_success_rises_with_eps(cnn_case: Callable[..., Any], name: str) -> None:
    case = cnn_case(256)
    counts = [int(broken(case, attack(name, case, PerturbationBudget("linf", e))).sum()) for e in (0.0, 0.02, 0.1, 0.4)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] > counts[1]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_eps_zero_changes_nothing(cnn_case: Callable[..., Any], norm: Norm) -> None:
    case = cnn_case(16)
    for name in ("fgsm", "pgd", "noise") if norm != "l0" else ("fgsm", "noise"):
        assert torch.equal(attack(name, case, PerturbationBudget(norm, 0.0)), case.x)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "noise"])
def test_inactive_samples_come_back_and_do_not_change_the_others(cnn_case: Callable[..., Any], name: str) -> None:
    case, budget = cnn_case(), PerturbationBudget("linf", 0.03)
    active = torch.arange(len(case.x)) % 3 == 0
    everyone, some = attack(name, case, budget), attack(name, case, budget, active=active)
    assert torch.equal(some[~active], case.x[~active])
    torch.testing.assert_close(some[active], everyone[active], atol=1e-6, rtol=0)
    nobody = attack(name, case, budget, active=torch.zeros_like(active))
    assert torch.equal(nobody, case.x)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_a_target_label_is_aimed_at(cnn_case: Callable[..., Any], name: str) -> None:
    case, budget = cnn_case(), PerturbationBudget("linf", 0.3)
    wanted = (case.y + 1) % 5
    hit = case.target.predict(attack(name, case, budget, target_label=wanted)) == wanted
    missed = case.target.predict(attack(name, case, budget)) == wanted
    assert int(hit.sum()) > int(missed.sum())
    if name == "pgd":
        assert bool(hit.all())


def test_fgsm_with_predicted_labels_moves_away_from_the_prediction(cnn_case: Callable[..., Any]) -> None:
    case, budget = cnn_case(), PerturbationBudget("linf", 0.05)
    wrong = (case.y + 1) % 5
    draw = torch.Generator()
    with case.target.attacked():
        predicted = fgsm(case.target, case.x, wrong, budget=budget, generator=draw, labels="predicted")
        true = fgsm(case.target, case.x, wrong, budget=budget, generator=draw)
    assert torch.equal(predicted, attack("fgsm", case, budget))
    assert not torch.equal(true, predicted)


class Quantised(nn.Module):
    """Rounds its input: piecewise constant, so no gradient arrives."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(torch.round(x.detach() * 8) / 8)
        return logits


class NanGradient(Quantised):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x) + 0 * torch.sqrt(x - x).sum(dim=(1, 2, 3))[:, None]
        return logits


@pytest.mark.parametrize("wrapper", [Quantised, NanGradient])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_useless_gradients_fail_without_a_crash(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget], wrapper: type[Quantised], norm: Norm
) -> None:
    case = cnn_case(8)
    network, budget = wrapper(case.target.network), PerturbationBudget(norm, 0.01 if norm != "l0" else 1)
    target = target_of(network, case.x, 5)
    with target.attacked():
        for name in ("fgsm", "pgd") if norm != "l0" else ("fgsm",):
            found = ATTACKS[name](target, case.x, case.y, budget=budget, generator=torch.Generator().manual_seed(0))
            assert bool(torch.isfinite(found).all())
            assert bool((measured_distance(found, case.x, budget) <= allowed_distance(budget)).all())


def test_attacks_leave_inputs_and_grad_mode_alone(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(8)
    x, y, before = case.x.clone(), case.y.clone(), torch.get_rng_state()
    for name in ("fgsm", "pgd", "noise"):
        found = attack(name, case, PerturbationBudget("linf", 0.1))
        assert not found.requires_grad
        assert found.dtype == torch.float32
    assert torch.is_grad_enabled()
    assert torch.equal(case.x, x)
    assert torch.equal(case.y, y)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.requires_grad and p.grad is None for p in case.target.network.parameters())


def test_restarts_need_random_starts(cnn_case: Callable[..., Any]) -> None:
    with pytest.raises(AttackSettingsError) as refused:
        attack("pgd", cnn_case(4), PerturbationBudget("linf", 0.1), restarts=2, random_start=False)
    assert refused.value.expected == "random_start=true"


def test_more_restarts_never_break_less(cnn_case: Callable[..., Any]) -> None:
    case, budget = cnn_case(256), PerturbationBudget("linf", 0.02)
    one = broken(case, attack("pgd", case, budget, steps=3))
    many = broken(case, attack("pgd", case, budget, steps=3, restarts=5))
    assert bool((many >= one).all())


class Alternating(nn.Module):
    """Two classes told apart by the first value in every even call, by the second in every odd call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1)[:, self.calls % 2] + 1.0
        self.calls += 1
        return torch.stack([torch.zeros_like(score), score], dim=1)


def moved_by(target_of: Callable[..., NetworkTarget], **settings: Any) -> list[float]:
    x, y = torch.tensor([0.5, 0.6]).view(1, 1, 1, 2), torch.ones(1, dtype=torch.int64)
    found = pgd(
        target_of(Alternating(), x, 2),
        x,
        y,
        budget=PerturbationBudget("l2", 0.3),
        generator=torch.Generator(),
        random_start=False,
        **settings,
    )
    return [float(value) for value in (found - x).flatten()]


def test_eot_follows_the_mean_gradient(target_of: Callable[..., NetworkTarget]) -> None:
    """The slopes of log(1 + exp(-s)) at s = 1.5 and 1.6 weigh the two directions."""
    first, second = (torch.sigmoid(torch.tensor(-s)).item() for s in (1.5, 1.6))
    length = (first**2 + second**2) ** 0.5
    expected = [-0.3 * first / length, -0.3 * second / length]
    assert moved_by(target_of, steps=1, step_size_rel=1.0, eot_samples=2) == pytest.approx(expected, abs=1e-6)
    assert moved_by(target_of, steps=1, step_size_rel=1.0) == pytest.approx([-0.3, 0.0], abs=1e-6)


def test_momentum_adds_the_gradients_before(target_of: Callable[..., NetworkTarget]) -> None:
    """Both gradients have mean size 1 after division, so the second step points along (-0.5, -1)."""
    step, length = 0.1, 1.25**0.5
    expected = [-step - step * 0.5 / length, -step / length]
    assert moved_by(target_of, steps=2, step_size_rel=1 / 3, momentum=0.5) == pytest.approx(expected, abs=1e-6)
    assert moved_by(target_of, steps=2, step_size_rel=1 / 3) == pytest.approx([-step, -step], abs=1e-6)


def test_a_step_in_l1_leaves_out_the_values_that_the_box_stops() -> None:
    x_adv = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5, 0.5]).view(1, 1, 1, 6)
    direction = torch.tensor([-2.0, 2.0, -2.0, 2.0, -2.0, 2.0]).view(1, 1, 1, 6)
    assert unstopped(direction, x_adv).flatten().tolist() == [0, 2, -2, 0, -2, 2]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_step_of_pgd_is_the_papers(norm: Norm, cnn_case: Callable[..., Any]) -> None:
    """Each recorded iterate is the projection of the one before plus the steepest step; the last one moves nothing."""
    case, eps, seen = cnn_case(12), {"linf": 0.01, "l2": 0.05, "l1": 0.2}[norm], list[Tensor]()
    hook = case.target.network.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach().clone()))
    alone = torch.arange(12) == 7  # far from broken: one sample, so that none leaves
    budget = PerturbationBudget(norm, eps)
    found = attack("pgd", case, budget, active=alone, steps=5, random_start=False, step_size_rel=0.7)[7]
    hook.remove()
    x, y, losses = case.x[7:8], case.y[7:8], []
    assert torch.equal(seen[0], x)
    for number, iterate in enumerate(seen[:6]):
        with torch.enable_grad():
            point = iterate.clone().requires_grad_()
            loss = cross_entropy(case.target.network(point), y)
            (gradient,) = torch.autograd.grad(loss.sum(), point)
        losses.append(float(loss.detach()))
        inside = torch.where(gradient > 0, iterate < 1, iterate > 0)
        size = gradient.abs() * inside
        step = {
            "linf": gradient.sign(),
            "l2": gradient / gradient.norm(),
            "l1": gradient.sign() * (size == size.max()),  # 1 % of 100 values
        }[norm]
        if number < 5:
            expected = project(iterate + 0.7 * eps * step, x, budget)
            torch.testing.assert_close(seen[number + 1], expected, atol=1e-6, rtol=0)
    assert torch.equal(found, seen[1 + int(torch.tensor(losses[1:]).argmax())][0])  # the clean image is no attempt


def foolbox() -> Any:
    with warnings.catch_warnings():
        # foolbox 3.3.4 imports scipy's old namespaces; nothing of ours
        warnings.simplefilter("ignore", DeprecationWarning)
        import foolbox as module
    return module


def test_fgsm_equals_foolbox(cnn_case: Callable[..., Any]) -> None:
    case, peer = cnn_case(), foolbox()
    model = peer.PyTorchModel(case.target.network, bounds=(0, 1), device="cpu")
    peers: list[tuple[Norm, float, Any]] = [
        ("linf", 0.1, peer.attacks.LinfFastGradientAttack()),
        ("l2", 0.7, peer.attacks.L2FastGradientAttack()),
    ]
    for norm, eps, theirs in peers:
        _, expected, _ = theirs(model, case.x, case.y, epsilons=eps)
        found = attack("fgsm", case, PerturbationBudget(norm, eps))
        tolerance = 1e-6 if norm == "linf" else 1e-5
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.015), ("l2", 0.1), ("l1", 0.5)])
def test_pgd_is_as_strong_as_foolbox(cnn_case: Callable[..., Any], norm: Norm, eps: float) -> None:
    case, peer = cnn_case(256), foolbox()
    model = peer.PyTorchModel(case.target.network, bounds=(0, 1), device="cpu")
    names = {
        "linf": peer.attacks.LinfProjectedGradientDescentAttack,
        "l2": peer.attacks.L2ProjectedGradientDescentAttack,
        "l1": peer.attacks.SparseL1DescentAttack,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, found, _ = names[norm](rel_stepsize=0.0625, steps=40, random_start=True)(model, case.x, case.y, epsilons=eps)
    theirs = broken(case, found)
    ours = broken(case, attack("pgd", case, PerturbationBudget(norm, eps), steps=40, step_size_rel=0.0625))
    assert 20 < int(theirs.sum()) < 236, "the budget must leave something to compare"
    apart = 10 if norm == "l1" else 3  # foolbox draws the sparse steps' values at random; measured: 5, and 0 or 1
    assert abs(int(ours.sum()) - int(theirs.sum())) <= apart
    assert float(distance(found, case.x, norm).max()) <= eps * 1.001
