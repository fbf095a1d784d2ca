"""The harness: counts worst cases, trusts no attack, and gives the same result however the work is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core import errors
from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.pgd import fgsm
from secure_ai.red.evasion.contract import Attack, AttackEntry, AttackPlan
from secure_ai.red.evasion.suite.harness import run_suite, score_examples
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.suite.verify import allowed_distance, measured_distance

LINF = PerturbationBudget("linf", 0.02)
SUITE = parse_attacks("fgsm,pgd:steps=5,noise")


def planned(attack: Callable[..., object], kind: Any = "budget") -> AttackPlan:
    entry = AttackEntry(
        name="planted", attack=cast(Attack, attack), norms=("linf",), knowledge="white-box", kind=kind, source="a test"
    )
    return AttackPlan("planted", entry, {})


def run(
    case: Any, *attacks: AttackPlan, budget: PerturbationBudget = LINF, seed: int = 0, **options: Any
) -> SuiteResult:
    return run_suite(case.target, case.x, case.y, budget=budget, attacks=attacks or SUITE, seed=seed, **options)


@pytest.fixture(scope="module")
def result(cnn_case: Callable[..., Any]) -> SuiteResult:
    return run(cnn_case(600), keep_examples=True)


def test_worst_cases_and_rates_agree(result: SuiteResult, cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(600)
    assert result.complete
    assert result.clean_accuracy.value == 1.0
    assert np.array_equal(result.robust, ~(result.predictions != case.y.numpy()))
    assert np.array_equal(result.robust, result.broken_by < 0)
    assert result.robust_accuracy.successes == int(result.robust.sum())
    assert result.attack_success_rate.successes == 600 - int(result.robust.sum())
    assert 0 < result.robust_accuracy.successes < 600
    assert result.n == 600


def test_kept_examples_show_every_success(result: SuiteResult, cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(600)
    assert result.x_adv is not None
    x_adv = torch.from_numpy(result.x_adv.copy())
    assert bool((measured_distance(x_adv, case.x, LINF) <= allowed_distance(LINF)).all())
    assert np.array_equal(case.target.predict(x_adv).numpy(), result.predictions)
    assert bool((x_adv != case.x).flatten(1).any(dim=1).all())


def test_rows_stand_in_order_and_never_rise(result: SuiteResult) -> None:
    assert [row.plan.name for row in result.rows] == ["fgsm", "pgd", "noise"]
    values = [row.robust_accuracy.successes for row in result.rows]
    broken = [row.broken for row in result.rows]
    assert values == [600 - broken[0], 600 - sum(broken[:2]), 600 - sum(broken)]
    assert values[-1] == result.robust_accuracy.successes
    assert result.rows[0].attempted == 600
    assert result.rows[1].attempted == 600 - result.rows[0].broken
    assert all(row.broken == int((result.broken_by == i).sum()) for i, row in enumerate(result.rows))


def test_passes_are_counted_with_the_verification(linear_case: Callable[..., Any]) -> None:
    case = linear_case("linf", 0.3)
    found = run(case, *parse_attacks("fgsm,pgd:steps=40"), budget=PerturbationBudget("linf", 0.1))
    n = len(case.x)
    assert [(row.forward_passes, row.backward_passes) for row in found.rows] == [(2 * n, n), (42 * n, 40 * n)]
    assert found.clean_passes == n
    assert all(row.seconds > 0 for row in found.rows)
    assert found.seconds >= sum(row.seconds for row in found.rows)


def test_json_has_the_contract_keys(result: SuiteResult) -> None:
    content = result.as_json()
    assert content["budget"] == {"norm": "linf", "eps": 0.02, "eps_text": "0.02"}
    for key in ("clean_accuracy", "robust_accuracy", "attack_success_rate"):
        assert content[key]["n"] == 600
    for row in content["attacks"]:
        assert {"name", "seconds", "forward_passes", "backward_passes", "robust_accuracy"} <= set(row)


@pytest.mark.parametrize("batch_size", [17, 100])
def test_batch_size_changes_nothing(cnn_case: Callable[..., Any], result: SuiteResult, batch_size: int) -> None:
    other = run(cnn_case(600, batch_size=batch_size))
    assert np.array_equal(other.robust, result.robust)
    assert np.array_equal(other.broken_by, result.broken_by)


def test_uint8_float_and_numpy_are_the_same_images(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(64)
    pixels = (case.x * 255).round().to(torch.uint8)
    runs = [
        run_suite(case.target, x, case.y.numpy(), budget=LINF, attacks=SUITE, seed=0)
        for x in (pixels, pixels.numpy(), pixels.float() / 255, (pixels.float() / 255).numpy())
    ]
    assert all(np.array_equal(other.robust, runs[0].robust) for other in runs[1:])


def test_same_seed_same_result_other_seed_other_draws(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(64)
    noise = parse_attacks("noise")
    first, again, other = (run(case, *noise, seed=seed, keep_examples=True).x_adv for seed in (1, 1, 2))
    assert first is not None
    assert np.array_equal(first, cast(np.ndarray, again))
    assert not np.array_equal(first, cast(np.ndarray, other))


def test_order_does_not_change_an_attacks_draws(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(300)
    pgd, fgsm, noise = parse_attacks("pgd:steps=5,fgsm,noise")
    budget = PerturbationBudget("linf", 0.01)
    one = run(case, pgd, fgsm, noise, independent=True, budget=budget)
    two = run(case, noise, fgsm, pgd, independent=True, budget=budget)
    assert np.array_equal(one.broken, two.broken[::-1])
    assert np.array_equal(one.robust, two.robust)
    dropped = run(case, fgsm, noise, pgd, budget=budget)
    assert np.array_equal(dropped.robust, one.robust)


def test_the_generator_depends_on_seed_attack_and_first_index_only(cnn_case: Callable[..., Any]) -> None:
    case, seen = cnn_case(300), []

    def spy(target: NetworkTarget, x: Tensor, y: Tensor, *, generator: torch.Generator, **_: Any) -> Tensor:
        seen.append(generator.initial_seed())
        return x

    run(case, planned(spy))
    run(case, *SUITE, planned(spy), budget=LINF)
    run_suite(case.target, case.x[:280], case.y[:280], budget=LINF, attacks=[planned(spy)], seed=0)
    alone, after_others, shorter = seen[:2], seen[2:4], seen[4:6]
    assert alone == after_others == shorter
    assert alone[0] != alone[1]
    run(case, planned(spy), seed=1)
    run(case, replace(planned(spy), name="another"))
    assert len(set(seen)) == 6


def test_the_strongest_attempt_on_a_survivor_is_kept(linear_case: Callable[..., Any]) -> None:
    case = linear_case("linf", 0.3)
    near, far = parse_attacks("pgd:steps=1:step_size_rel=0.001:random_start=false,fgsm")
    budget = PerturbationBudget("linf", 0.2)
    for attacks in ((near, far), (far, near)):
        found = run(case, *attacks, budget=budget, keep_examples=True)
        assert found.robust_accuracy.value == 1.0
        distance = measured_distance(torch.from_numpy(cast(np.ndarray, found.x_adv).copy()), case.x, budget)
        torch.testing.assert_close(distance, torch.full_like(distance, 0.2), atol=1e-6, rtol=0)


def test_of_independent_attacks_the_first_to_break_a_sample_is_shown(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(100)
    budget = PerturbationBudget("linf", 0.3)
    found = run(case, *parse_attacks("fgsm,pgd:steps=9"), independent=True, keep_examples=True, budget=budget)
    x_adv = torch.from_numpy(cast(np.ndarray, found.x_adv).copy())
    assert np.array_equal(case.target.predict(x_adv).numpy(), found.predictions)
    first = run(case, *parse_attacks("fgsm"), budget=budget)
    assert np.array_equal(found.predictions[first.broken_by == 0], first.predictions[first.broken_by == 0])
    second = run(case, *parse_attacks("pgd:steps=9"), budget=budget)
    assert (first.predictions != second.predictions).any(), "the two must differ for this to mean anything"


def test_misclassified_samples_are_not_attacked_and_not_robust(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(100)
    wrong = torch.arange(100) < 30
    y = torch.where(wrong, (case.y + 1) % 5, case.y)
    found = run_suite(case.target, case.x, y, budget=LINF, attacks=SUITE, seed=0, keep_examples=True)
    assert found.clean_accuracy.successes == 70
    assert not found.robust[:30].any()
    assert (found.broken_by[:30] == -1).all()
    assert found.x_adv is not None
    assert np.array_equal(found.x_adv[:30], case.x[:30].numpy())
    assert found.attack_success_rate.n == 70
    assert found.rows[0].attempted == 70


def test_nothing_correct_means_no_success_rate(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(20)
    found = run_suite(case.target, case.x, (case.y + 1) % 5, budget=LINF, attacks=SUITE, seed=0)
    assert found.robust_accuracy.value == 0.0
    assert found.attack_success_rate.as_json() == {
        "value": None,
        "ci_low": None,
        "ci_high": None,
        "n": 0,
        "successes": 0,
        "reason": "no sample was classified correctly before the attack",
    }
    assert [row.forward_passes for row in found.rows] == [0, 0, 0]


def test_targeted_success_is_the_target_class_only(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(200)
    found = run(case, target_label=2, budget=PerturbationBudget("linf", 0.1), keep_examples=True)
    is_target = (case.y == 2).numpy()
    assert found.attack_success_rate.n == int((~is_target).sum())
    assert not found.attempted[:, is_target].any()
    assert (found.predictions[found.broken_by >= 0] == 2).all()
    assert found.attack_success_rate.successes == int((found.broken_by >= 0).sum()) > 0
    assert np.array_equal(found.robust, found.predictions == case.y.numpy())
    assert (~found.robust & (found.broken_by < 0)).any(), "wrong, but not as the attacker wanted"


def clean_image(target: NetworkTarget, x: Tensor, y: Tensor, **_: Any) -> Tensor:
    return x


def too_far(target: NetworkTarget, x: Tensor, y: Tensor, **_: Any) -> Tensor:
    return (x + 0.03).clamp(0, 1)


def not_finite(target: NetworkTarget, x: Tensor, y: Tensor, **_: Any) -> Tensor:
    return x * torch.nan


def half_shape(target: NetworkTarget, x: Tensor, y: Tensor, **_: Any) -> Tensor:
    return x[:1]


def in_place(target: NetworkTarget, x: Tensor, y: Tensor, **_: Any) -> Tensor:
    return x.add_(0.5).clamp_(0, 1)


@pytest.mark.parametrize("cheat", [too_far, not_finite, half_shape, in_place])
def test_an_attack_that_cheats_ends_the_run(cnn_case: Callable[..., Any], cheat: Callable[..., Tensor]) -> None:
    case = cnn_case(20)
    x = case.x.clone()
    with pytest.raises(errors.AttackOutputError, match="planted"):
        run(case, planned(cheat))
    assert torch.equal(case.x, x)


def test_an_attack_that_returns_the_clean_image_breaks_nothing_and_is_counted(cnn_case: Callable[..., Any]) -> None:
    found = run(cnn_case(20), planned(clean_image))
    assert found.robust_accuracy.value == 1.0
    assert found.rows[0].unmoved == 20
    assert run(cnn_case(20)).rows[0].unmoved == 0


def test_a_minimal_attack_outside_eps_does_not_count(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(50)

    def far_away(target: NetworkTarget, x: Tensor, y: Tensor, **_: Any) -> Tensor:
        found: Tensor = fgsm(target, x, y, budget=PerturbationBudget("linf", 0.5), generator=torch.Generator())
        return found

    found = run(case, planned(far_away, "minimal"), keep_examples=True)
    assert found.robust_accuracy.value == 1.0
    assert np.array_equal(cast(np.ndarray, found.x_adv), case.x.numpy())
    with pytest.raises(errors.AttackOutputError):
        run(case, planned(far_away))
    assert run(case, planned(far_away), budget=PerturbationBudget("linf", 0.5)).robust_accuracy.value == 0.0


def test_model_and_global_randomness_are_left_as_they_were(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(40)
    network = case.target.network
    network.train()
    network[0].weight.requires_grad_(False)
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in network.state_dict().items()}
    run(case)
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training
    assert not network[0].weight.requires_grad
    assert network[5].weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


class Random(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x + 0.05 * torch.randn_like(x))
        return logits


def test_a_random_network_is_attacked_reproducibly(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]
) -> None:
    case = cnn_case(100)
    target = target_of(Random(case.target.network), case.x, 5, deterministic=False)
    before = torch.get_rng_state()
    one, two = (run_suite(target, case.x, case.y, budget=LINF, attacks=SUITE, seed=3) for _ in range(2))
    assert np.array_equal(one.robust, two.robust)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_reaches_its_total(cnn_case: Callable[..., Any]) -> None:
    seen: list[tuple[int, int]] = []
    run(cnn_case(300), progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (900, 900)
    assert {total for _, total in seen} == {900}


def test_stop_leaves_the_finished_shards_marked_incomplete(cnn_case: Callable[..., Any], result: SuiteResult) -> None:
    case, calls = cnn_case(600), iter(range(100))
    found = run(
        case, stop=lambda: next(calls) >= 4, keep_examples=True
    )  # in the second shard, before its second attack
    assert not found.complete
    assert found.stopped == "stop"
    assert found.n == 256
    assert np.array_equal(found.evaluated, np.arange(600) < 256)
    assert np.array_equal(found.robust[:256], result.robust[:256])
    assert not found.robust[256:].any()
    assert (found.predictions[256:] == -1).all()
    assert found.as_json()["complete"] is False
    assert len(cast(np.ndarray, found.x_adv)) == 600


def test_ctrl_c_before_anything_is_finished_gives_rates_without_a_value(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(20)

    def interrupted(target: NetworkTarget, x: Tensor, y: Tensor, **_: Any) -> Tensor:
        raise KeyboardInterrupt

    found = run(case, planned(interrupted), keep_examples=True)
    assert found.stopped == "interrupt"
    assert found.n == 0
    assert found.robust_accuracy.value is None
    assert "stopped" in found.robust_accuracy.reason
    assert all(parameter.requires_grad for parameter in case.target.network.parameters())


class Drifting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))
        self.fc = nn.Linear(100, 5)

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        logits: Tensor = self.fc(x.flatten(1))
        return logits


class NanLogits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5] * torch.nan


@pytest.mark.parametrize(("network", "told"), [(Drifting(), "changes its own weights"), (NanLogits(), "NaN")])
def test_networks_that_cannot_be_evaluated(
    cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget], network: nn.Module, told: str
) -> None:
    case = cnn_case(20)
    target = target_of(network, case.x, 5)
    with pytest.raises(errors.TargetError, match=told):
        run_suite(target, case.x, case.y, budget=LINF, attacks=SUITE, seed=0)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"x": torch.zeros((0, 1, 10, 10)), "y": torch.zeros(0, dtype=torch.int64)}, errors.EmptyDataError),
        ({"y": torch.zeros(3, dtype=torch.int64)}, errors.PairCountError),
        ({"y": torch.full((20,), 5)}, errors.LabelError),
        ({"y": torch.full((20,), -1)}, errors.LabelError),
        ({"target_label": 5}, errors.LabelError),
        ({"x": torch.zeros((20, 1, 9, 10))}, errors.ShapeError),
        ({"x": torch.full((20, 1, 10, 10), 1.5)}, errors.PixelRangeError),
        ({"attacks": ()}, errors.AttackSettingsError),
        ({"budget": PerturbationBudget("l0", 3), "attacks": parse_attacks("pgd")}, errors.AttackSettingsError),
        ({"budget": PerturbationBudget("linf", 1.5)}, errors.BudgetError),
        ({"budget": PerturbationBudget("l2", 10.1)}, errors.BudgetError),
        (
            {"attacks": parse_attacks("noise:draws=100000,pgd:steps=100000:restarts=1000:eot_samples=1000")},
            errors.CostLimitError,
        ),
    ],
)
def test_bad_input_is_refused_before_any_pass(
    cnn_case: Callable[..., Any], change: dict[str, Any], error: type[errors.SecureAIError]
) -> None:
    case = cnn_case(20)
    arguments = {"x": case.x, "y": case.y, "budget": LINF, "attacks": SUITE, "seed": 0, **change}
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(error):
        run_suite(case.target, x, y, **arguments)
    assert case.target.passes.forward == 0


def test_a_model_of_one_class_is_refused(cnn_case: Callable[..., Any], target_of: Callable[..., NetworkTarget]) -> None:
    case = cnn_case(4)
    target = target_of(nn.Sequential(nn.Flatten(), nn.Linear(100, 1)), case.x, 1)
    with pytest.raises(errors.TargetError, match="one class"):
        run_suite(target, case.x, torch.zeros(4, dtype=torch.int64), budget=LINF, attacks=SUITE, seed=0)


def test_saved_examples_score_on_their_own_network_as_they_did(
    cnn_case: Callable[..., Any], result: SuiteResult
) -> None:
    case = cnn_case(600)
    x_adv = cast(np.ndarray, result.x_adv)
    score = score_examples(case.target, x_adv, case.y, case.x, budget=LINF, made_for=result.model_digest)
    assert np.array_equal(score.adversarial_correct, result.robust)
    assert score.robust_accuracy == result.robust_accuracy
    assert score.clean_accuracy.value == 1.0


def test_saved_examples_outside_the_budget_are_refused(cnn_case: Callable[..., Any]) -> None:
    case = cnn_case(20)
    far = (case.x + 0.05).clamp(0, 1)
    with pytest.raises(errors.AttackOutputError, match="saved examples"):
        score_examples(case.target, far, case.y, case.x, budget=LINF, made_for="")
    assert (
        score_examples(
            case.target, far, case.y, case.x, budget=replace(LINF, eps=0.06), made_for=""
        ).clean_accuracy.value
        == 1.0
    )


def test_margin_left_shuts_out_no_sample_of_which_nothing_is_known_inside_eps(linear_case: Callable[..., Any]) -> None:
    case = linear_case("linf", 0.05)
    plans = parse_attacks("fab-t:minimize=false,noise:margin_left=1.0", "linf")
    result = run_suite(case.target, case.x, case.y, budget=PerturbationBudget("linf", 0.04), attacks=plans, seed=1)
    assert not result.broken[0].any()
    assert result.attempted[1].all()


@pytest.mark.parametrize("eps", [0.002, 0.003, 0.005])
def test_rounding_at_a_small_l2_budget_does_not_end_a_run(target_of: Callable[..., NetworkTarget], eps: float) -> None:
    """28 x 28 pixels near 0.5, each rounded to float32: 6e-5 of such an eps."""
    x = torch.rand((64, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 5))
    y = network(x).argmax(dim=1)
    plans = parse_attacks("apgd-ce:steps=3,odi-pgd:restarts=2,square:query_budget=100", "l2")
    result = run_suite(target_of(network, x, 5), x, y, budget=PerturbationBudget("l2", eps), attacks=plans, seed=0)
    assert result.n == len(x)
