"""FAB step by step: each point must be what 1907.02044, algorithm 1, makes of the point before it.

The reference reads the recorded points; margins and gradients by autograd, both projections by bisection (`slow` in
double precision), the rest in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.red.evasion.math.hyperplane import dual_length

STEPS = 12
LENGTH: dict[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1}
DUAL: dict[Norm, float] = {"linf": 1, "l2": 2, "l1": np.inf}
EPS: dict[Norm, float] = {"linf": 0.2, "l2": 0.7, "l1": 3.0}


def onto_hyperplane(x: Tensor, normal: Tensor, gap: float, norm: Norm) -> Tensor:
    """One sample: the shortest delta with <normal, delta> = gap in [0, 1]; all the room where that does not reach."""
    w = np.sign(gap) * normal.flatten().double().numpy()
    size, room = np.abs(w), np.where(w > 0, 1 - x.flatten().double().numpy(), x.flatten().double().numpy())
    moved = np.zeros_like(size)
    if norm == "l1":
        left = abs(gap)
        for index in np.argsort(-size):
            moved[index] = min(left / max(size[index], 1e-12), room[index])
            left -= moved[index] * size[index]
    else:
        pull, low, high = np.ones_like(size) if norm == "linf" else size, 0.0, 1e4
        for _ in range(60):
            middle = (low + high) / 2
            enough = (size * np.minimum(middle * pull, room)).sum() >= abs(gap)
            low, high = (low, middle) if enough else (middle, high)
        moved = np.minimum(high * pull, room)
    return torch.from_numpy(np.sign(w) * moved).float().view_as(x)


def to_boundary(x_adv: Tensor, x: Tensor, gap: float, normal: Tensor, norm: Norm) -> tuple[Tensor, float]:
    """Equations 7 to 9: both projections, overshot by 1.05, in the proportion of their lengths, at most 0.1."""
    near = onto_hyperplane(x_adv, normal, gap, norm)
    far = onto_hyperplane(x, normal, gap + float((normal * (x_adv - x)).double().sum()), norm)
    near_length, far_length = (float(torch.linalg.vector_norm(d.flatten(), LENGTH[norm])) for d in (near, far))
    alpha = min(near_length / (near_length + far_length), 0.1)
    return ((1 - alpha) * (x_adv + 1.05 * near) + alpha * (x + 1.05 * far)).clamp(0, 1), alpha


def nearest(target: Any, x_adv: Tensor, classes: list[int], norm: Norm) -> tuple[float, Tensor]:
    """Of the boundaries between class 0 and `classes` the nearest by linearisation: what is missing, and the normal."""
    found = []
    for other in classes:
        lead, normal = target.loss(x_adv[None], torch.zeros(1), lambda z, y, to=other: z[:, to] - z[:, 0])
        found.append((abs(float(lead)) / float(normal.flatten().norm(DUAL[norm])), -float(lead), normal[0]))
    return min(found, key=lambda item: item[0])[1:]


def follow(target: Any, points: list[Tensor], x: Tensor, classes: list[list[int]], norm: Norm) -> list[float]:
    """Check one run: `points` are iterates and what they were moved to, in turn. Gives the weights alpha."""
    alphas = []
    for k in range(0, len(points), 2):
        for i in range(len(x)):
            gap, normal = nearest(target, points[k][i], classes[i], norm)
            moved, alpha = to_boundary(points[k][i], x[i], gap, normal, norm)
            torch.testing.assert_close(points[k + 1][i], moved, atol=2e-4, rtol=0, msg=f"sample {i}, step {k // 2}")
            alphas.append(alpha)
            if k + 2 < len(points):
                adversarial = int(target.network(points[k + 1][i : i + 1]).argmax()) != 0
                back = x[i] + (0.9 if adversarial else 1.0) * (points[k + 1][i] - x[i])
                torch.testing.assert_close(points[k + 2][i], back, atol=1e-6, rtol=0)
    return alphas


def images() -> Tensor:
    x = torch.rand((3, 1, 5, 5), generator=torch.Generator().manual_seed(1))
    return torch.where(x < 0.2, 0.0, x)


def nearest_success(target: Any, points: list[Tensor], x: Tensor, norm: Norm) -> Tensor:
    """Of all points that were tried the nearest that is misclassified, one a sample."""
    found = []
    for i in range(len(x)):
        mine = torch.stack([p[i] for p in points])
        away = torch.linalg.vector_norm((mine - x[i]).flatten(1), LENGTH[norm], dim=1)
        found.append(mine[torch.where(target.network(mine).argmax(dim=1) != 0, away, torch.inf).argmin()])
    return torch.stack(found)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["fab", "fab-t"])
def test_every_step_is_the_papers_and_the_nearest_success_is_returned(
    name: str, norm: Norm, recorder_of: Callable[..., Any], run: Any
) -> None:
    target, x = recorder_of(0.7), images()
    settings = {"targets": 1} if name == "fab-t" else {}
    x_adv = run(name, target, x, torch.zeros(3, dtype=torch.int64), norm, EPS[norm], steps=STEPS, **settings)
    points = target.seen[1:] if name == "fab-t" else target.seen  # first: the clean logits that order the classes
    assert len(points) == 2 * STEPS
    assert torch.equal(points[0], x)
    likeliest = (target.network(x)[:, 1:].argmax(dim=1) + 1).tolist()
    classes = [[c] for c in likeliest] if name == "fab-t" else [[1, 2, 3]] * 3
    alphas = follow(target, points, x, classes, norm)
    assert min(alphas) < 0.09 < max(alphas)  # else the weights would test nothing
    torch.testing.assert_close(x_adv, nearest_success(target, points[1::2], x, norm), atol=0, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_restart_begins_half_of_eps_away(norm: Norm, recorder_of: Callable[..., Any], run: Any) -> None:
    target, x, eps = recorder_of(0.7), torch.full((3, 1, 5, 5), 0.5), 0.2
    run("fab-t", target, x, torch.zeros(3, dtype=torch.int64), norm, eps, steps=1, restarts=2, targets=1)
    _, first, _, second, _ = target.seen
    assert torch.equal(first, x)
    away = torch.linalg.vector_norm((second - x).flatten(1), LENGTH[norm], dim=1)
    torch.testing.assert_close(away, torch.full((3,), eps / 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("norm", "expected"), [("linf", 7.0), ("l2", 5.0), ("l1", 4.0)])
def test_a_boundary_is_as_far_as_the_dual_norm_of_its_gradient_says(norm: Norm, expected: float) -> None:
    assert dual_length(torch.tensor([[3.0, -4.0]]), norm).tolist() == [expected]
