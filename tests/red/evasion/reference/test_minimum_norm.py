"""DDN, FMN, C&W, DeepFool and sigma-zero: how near they come to the smallest distance, known for linear models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from secure_ai.core.budget import Norm
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.fmn import into_balls
from secure_ai.red.evasion.math.projections import distance
from secure_ai.red.evasion.math.schedules import annealed

CASES: tuple[tuple[str, Norm, float, dict[str, Any]], ...] = (
    ("ddn", "l2", 1.10, {}),
    ("fmn", "linf", 1.02, {}),
    ("fmn", "l2", 1.02, {}),
    ("fmn", "l1", 1.02, {}),
    ("fmn", "l0", 1.0, {}),
    ("cw", "l2", 1.05, {"steps": 100, "binary_search_steps": 6, "initial_const": 0.1}),
    ("deepfool", "linf", 1.03, {}),
    ("deepfool", "l2", 1.03, {}),
    ("sigma-zero", "l0", 1.0, {"steps": 200}),
)
"""Attack, norm, largest ratio of the distance found to the smallest there is (2 classes; 5: the median's), settings."""
IDS = [f"{name}-{norm}" for name, norm, _, _ in CASES]
QUICK = {
    "ddn": {},
    "fmn": {},
    "deepfool": {},
    "sigma-zero": {"steps": 60},
    "cw": {"steps": 60, "binary_search_steps": 4},
}


@pytest.mark.parametrize(("name", "norm", "worst", "settings"), CASES, ids=IDS)
def test_finds_nearly_the_smallest_distance(
    name: str, norm: Norm, worst: float, settings: dict[str, Any], two: Any, oracle: Any, run: Any
) -> None:
    for model in (two, oracle):
        best = model.optimum(norm)
        x_adv = run(name, model.target, model.x, model.y, norm, float(best.median()), **settings)
        ratio = distance(x_adv, model.x, norm) / best
        assert bool((model.target.predict(x_adv) != model.y).all())
        assert float(ratio.min()) >= 1 - 1e-4
        assert float(ratio.max() if model is two else ratio.median()) <= worst


@pytest.mark.parametrize(("name", "norm", "worst", "settings"), CASES, ids=IDS)
def test_a_target_label_is_the_goal(
    name: str, norm: Norm, worst: float, settings: dict[str, Any], oracle: Any, run: Any
) -> None:
    wanted = (oracle.y + 1) % 5
    x_adv = run(name, oracle.target, oracle.x, oracle.y, norm, 1.0, target_label=wanted, **QUICK[name])
    assert torch.equal(oracle.target.predict(x_adv), wanted)


@pytest.mark.parametrize(("name", "norm", "worst", "settings"), CASES, ids=IDS)
def test_failures_are_attempts_and_draw_nothing(
    name: str, norm: Norm, worst: float, settings: dict[str, Any], stubborn: Callable[[int], NetworkTarget], run: Any
) -> None:
    target, x, y = stubborn(3), torch.full((3, 1, 6, 6), 0.4), torch.zeros(3, dtype=torch.int64)
    steps = {"steps": 4}
    first, again = (run(name, target, x, y, norm, 1.0, seed=seed, **steps) for seed in (1, 2))
    some = torch.tensor([True, False, True])
    part = run(name, target, x, y, norm, 1.0, active=some, **steps)
    assert bool((first != x).flatten(1).any(dim=1).all())
    assert torch.equal(first, again)
    torch.testing.assert_close(part[some], first[some], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "norm", "worst", "settings"), CASES, ids=IDS)
def test_a_model_without_gradients_is_no_crash(
    name: str, norm: Norm, worst: float, settings: dict[str, Any], cut: NetworkTarget, oracle: Any, run: Any
) -> None:
    run(name, cut, oracle.x, oracle.y, norm, 1.0, steps=3)
    assert cut.passes.backward == 0


@pytest.mark.parametrize("name", ["ddn", "fmn", "cw"])
def test_without_minimize_samples_leave_at_their_first_success(name: str, oracle: Any, run: Any) -> None:
    best = oracle.optimum("l2")
    eps = 2.0 * float(best.max())
    passes = []
    for minimize in (True, False):
        x_adv = run(name, oracle.target, oracle.x, oracle.y, "l2", eps, minimize=minimize, steps=60)
        passes.append(oracle.target.passes.forward)
        within = distance(x_adv, oracle.x, "l2") <= eps
        assert bool((within & (oracle.target.predict(x_adv) != oracle.y)).all())
    assert passes[1] < passes[0]


def test_confidence_asks_for_a_margin(oracle: Any, run: Any) -> None:
    settings = {"steps": 60, "binary_search_steps": 3, "initial_const": 1.0}
    found = []
    for confidence in (0.0, 2.0):
        x_adv = run("cw", oracle.target, oracle.x, oracle.y, "l2", 1.0, confidence=confidence, **settings)
        logits = oracle.target.logits(x_adv).scatter(1, oracle.y[:, None], -torch.inf)
        margin = logits.max(dim=1).values - oracle.target.logits(x_adv).gather(1, oracle.y[:, None]).squeeze(1)
        assert bool((margin >= confidence).all())
        found.append(distance(x_adv, oracle.x, "l2"))
    assert bool((found[1] > found[0]).all())


def test_deepfool_with_more_overshoot_goes_further(oracle: Any, run: Any) -> None:
    little, much = (
        distance(run("deepfool", oracle.target, oracle.x, oracle.y, "l2", 1.0, overshoot=o), oracle.x, "l2")
        for o in (0.02, 0.5)
    )
    assert bool((much > 1.3 * little).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_into_balls_is_a_projection(norm: Norm) -> None:
    delta = torch.randn((20, 30), generator=torch.Generator().manual_seed(0))
    radius = torch.linspace(0.1, 2.0, 20) if norm != "l0" else torch.arange(1.0, 21.0)
    inside = into_balls(delta, radius, norm)
    reached = distance(inside.view(20, 1, 5, 6), torch.zeros(20, 1, 5, 6), norm)
    torch.testing.assert_close(reached, radius, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(into_balls(inside, radius, norm), inside, atol=1e-5, rtol=1e-5)
    other = into_balls(torch.randn((20, 30), generator=torch.Generator().manual_seed(1)), radius, norm)
    assert bool(((delta - inside).norm(dim=1) <= (delta - other).norm(dim=1) + 1e-5).all())
    within = inside * (torch.arange(30) % 2) if norm == "l0" else delta / 1000
    torch.testing.assert_close(into_balls(within, radius, norm), within, atol=1e-7, rtol=0)


def test_the_cosine_schedule_goes_from_end_to_end() -> None:
    assert annealed((1.0, 0.01), 0, 10) == pytest.approx(1.0)
    assert annealed((1.0, 0.01), 5, 10) == pytest.approx(0.505)
    assert annealed((1.0, 0.01), 10, 10) == pytest.approx(0.01)
