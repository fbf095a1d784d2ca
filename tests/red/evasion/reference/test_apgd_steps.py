"""APGD step by step: each iterate must be what the papers' algorithms make of the iterates before it.

The reference reads the recorded iterates, so that no rounding adds up: losses and gradients by autograd, the rest in
plain Python, one sample at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.red.evasion.attacks.apgd import apgd_start
from secure_ai.red.evasion.attacks.apgd_run import Iterates
from secure_ai.red.evasion.attacks.apgd_steps import Halving, halving_checkpoints
from secure_ai.red.evasion.math.losses import cross_entropy, dlr, dlr_targeted

STEPS = 100
EPS: dict[Norm, float] = {"linf": 0.2, "l2": 0.7, "l1": 2.0}


def papers_checkpoints(steps: int) -> list[int]:
    """2003.01690, section 3.1, as it is written: p = 0, 0.22, then p + max(last gap - 0.03, 0.06)."""
    p = [0.0, 0.22]
    while p[-1] + max(p[-1] - p[-2] - 0.03, 0.06) <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    return [round(steps * part) for part in p[1:]]


def projected(x_adv: Tensor, x: Tensor, norm: Norm, eps: float) -> Tensor:
    """One sample. l2: onto the ball, then [0, 1], as APGD has it; l1: onto both at once, by bisection."""
    delta = (x_adv - x).double()
    if norm == "linf":
        return torch.clamp(x_adv, x - eps, x + eps).clamp(0, 1)
    if norm == "l2":
        return (x + delta * min(1.0, eps / max(float(delta.norm()), 1e-12))).clamp(0, 1).float()
    size, room = delta.abs().numpy(), torch.where(delta > 0, 1 - x, x).double().numpy()
    low, high = 0.0, float(size.max()) if np.minimum(size, room).sum() > eps else 0.0
    for _ in range(40):
        shift = (low + high) / 2
        outside = np.clip(size - shift, 0, room).sum() > eps
        low, high = (shift, high) if outside else (low, shift)
    return (x + delta.sign() * torch.from_numpy(np.clip(size - high, 0, room))).float()


def direction(gradient: Tensor, norm: Norm, fraction: float) -> Tensor:
    """Of length 1: the sign, the normalised gradient, or the signs of the largest `fraction` of the values."""
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return gradient.div(gradient.norm())
    size = gradient.abs().flatten()
    count = max(1, math.ceil(round(fraction * len(size), 4)))
    signs = gradient.sign() * (gradient.abs() >= size.sort(descending=True).values[count - 1])
    return signs / signs.abs().sum()


class Reference:
    """One sample's run: `step` says what comes after the iterates so far."""

    def __init__(self, x: Tensor, norm: Norm, eps: float, steps: int, warm: Tensor | None = None) -> None:
        self.x, self.norm, self.eps = x, norm, eps
        self.checkpoints = papers_checkpoints(steps)
        self.length, self.halved, self.last_best, self.checked, self.rises = 2 * eps, True, 0.0, 0, 0
        self.fraction, self.support = 0.2, float(x.numel())
        if norm == "l1":
            self.length = eps
            self.checkpoints = list(range(max(1, int(0.04 * steps)), steps + 1, max(1, int(0.04 * steps))))
        if warm is not None:
            self.support = float((warm != x).sum())
            self.fraction = self.support / x.numel() / 1.5
        self.best, self.base, self.seen = 0, x, {"few": 0, "stuck": 0, "shrank": 0, "back": 0, "kept": 0}

    def step(self, k: int, iterates: list[Tensor], losses: list[float], gradients: list[Tensor]) -> Tensor:
        at, gradient = iterates[k], gradients[k]
        if k > 0:
            self.rises += losses[k] > losses[k - 1]
            self.best = k if losses[k] > losses[self.best] else self.best
        if k in self.checkpoints and self._goes_back(k, iterates, losses):
            self.seen["back"] += self.best not in (0, k)
            at, gradient = iterates[self.best], gradients[self.best]
        move = self.length * direction(gradient, self.norm, self.fraction)
        z = projected(at + move, self.x, self.norm, self.eps)
        if k > 0 and self.norm != "l1":
            z = projected(at + 0.75 * (z - at) + 0.25 * (at - self.base), self.x, self.norm, self.eps)
        self.base = at
        return z

    def _goes_back(self, k: int, iterates: list[Tensor], losses: list[float]) -> bool:
        if self.norm == "l1":  # 2103.01208, algorithm 1
            support = float((iterates[self.best] != self.x).sum())
            shrank = support < 0.95 * self.support
            self.length = self.eps if shrank else max(self.length / 1.5, 0.1 * self.eps)
            self.fraction, self.support = support / self.x.numel() / 1.5, support
            self.seen["shrank"] += shrank
            self.seen["kept"] += not shrank
            return shrank
        few = self.rises <= 0.75 * (k - self.checked)  # condition 1
        stuck = not self.halved and self.last_best >= losses[self.best]  # condition 2
        self.seen["few"] += few
        self.seen["stuck"] += stuck
        self.seen["kept"] += not (few or stuck)
        self.halved, self.last_best, self.checked, self.rises = few or stuck, losses[self.best], k, 0
        self.length /= 2 if self.halved else 1
        return self.halved


def follow(
    target: Any, seen: list[Tensor], x: Tensor, norm: Norm, eps: float, loss: Any, *, warm: bool = False
) -> tuple[Tensor, dict[str, int]]:
    """Check every step of one recorded run; gives the best points (N, C, H, W) and what happened on the way."""
    steps, happened = len(seen) - 1, {"few": 0, "stuck": 0, "shrank": 0, "back": 0, "kept": 0}
    y = torch.zeros(len(x), dtype=torch.int64)
    values, gradients = zip(*(target.loss(iterate, y, loss) for iterate in seen), strict=True)
    for i in range(len(x)):
        run = Reference(x[i], norm, eps, steps, seen[0][i] if warm else None)
        mine = [batch[i] for batch in seen], [float(v[i]) for v in values], [g[i] for g in gradients]
        for k in range(steps):
            torch.testing.assert_close(seen[k + 1][i], run.step(k, *mine), atol=2e-5, rtol=0, msg=f"{i}, step {k}")
        happened = {name: count + run.seen[name] for name, count in happened.items()}
    best = torch.stack(values).argmax(dim=0)
    return torch.stack([seen[int(k)][i] for i, k in enumerate(best)]), happened


def images(n: int = 6) -> Tensor:
    x = torch.rand((n, 1, 5, 5), generator=torch.Generator().manual_seed(1))
    return torch.where(x < 0.2, 0.0, x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(("name", "loss"), [("apgd-ce", cross_entropy), ("apgd-dlr", dlr)])
def test_every_step_is_the_papers(name: str, loss: Any, norm: Norm, recorder_of: Callable[..., Any], run: Any) -> None:
    target, x = recorder_of(6.0), images()
    y = torch.zeros(len(x), dtype=torch.int64)
    x_adv = run(name, target, x, y, norm, EPS[norm], steps=STEPS)
    assert len(target.seen) == STEPS + 1  # nothing broke, so nothing left
    best, happened = follow(target, target.seen, x, norm, EPS[norm], loss)
    torch.testing.assert_close(x_adv, best, atol=0, rtol=0)
    wanted = {"linf": ("few", "back"), "l2": ("few", "back", "kept"), "l1": ("shrank", "back", "kept")}[norm]
    assert all(happened[what] > 0 for what in wanted), happened  # else the case would test nothing


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_apgd_t_takes_the_same_steps_towards_each_class(norm: Norm, recorder_of: Callable[..., Any], run: Any) -> None:
    target, x, steps = recorder_of(6.0), images(2), 100
    y = torch.zeros(2, dtype=torch.int64)
    run("apgd-t", target, x, y, norm, EPS[norm], steps=steps, targets=3)
    assert len(target.seen) == 1 + 3 * (steps + 1)
    ranked = target.network(x)[:, 1:].argsort(dim=1, descending=True) + 1
    for number in range(3):
        part = target.seen[1 + number * (steps + 1) :][: steps + 1]
        towards = ranked[:, number]
        follow(target, part, x, norm, EPS[norm], lambda z, y, to=towards: dlr_targeted(z, y, to))


def test_the_radius_schedule_starts_each_part_at_the_best_point_of_the_last(
    recorder_of: Callable[..., Any], run: Any
) -> None:
    """2103.01208, section 3.4: 3, 2 and 1 times eps, with 30, 30 and 40 % of the steps."""
    target, x = recorder_of(9.0), images()
    y = torch.zeros(len(x), dtype=torch.int64)
    x_adv = run("apgd-ce", target, x, y, "l1", 0.8, steps=50, radius_schedule=True)
    at, best = 0, target.seen[0]
    for radius, steps in ((2.4, 15), (1.6, 15), (0.8, 20)):
        part = target.seen[at : at + steps + 1]
        start = torch.stack([projected(best[i], x[i], "l1", radius) for i in range(len(x))])
        torch.testing.assert_close(part[0], start, atol=2e-5, rtol=0)
        best, _ = follow(target, part, x, "l1", radius, cross_entropy, warm=True)
        at += steps + 1
    assert at == len(target.seen)
    assert torch.equal(x_adv, best)


@pytest.mark.parametrize(
    ("rises", "halved", "improved", "halves"),
    [
        (7, False, True, False),
        (6, False, True, True),  # at most 3/4 of 8 steps
        (0, True, True, True),
        (7, False, False, True),  # condition 2: neither step nor best loss changed since
        (7, True, False, False),  # the step did
        (7, True, True, False),
    ],
)
def test_a_step_is_halved_under_either_condition(rises: int, halved: bool, improved: bool, halves: bool) -> None:
    budget, x = PerturbationBudget("linf", 0.1), torch.full((1, 1, 2, 2), 0.5)
    rule = Halving.start(x, budget)
    rule.halved[0], rule.checked[0] = halved, 1.0
    at = Iterates.start(x + 0.05, torch.zeros(1, dtype=torch.int64))
    at.best, at.best_gradient = x - 0.1, x + 1
    at.best_loss, at.rises = torch.tensor([2.0 if improved else 1.0]), torch.tensor([float(rises)])
    rule.adapt(at, x, budget, 8)
    assert float(rule.step) == pytest.approx(0.1 if halves else 0.2)
    assert bool(rule.halved) is halves
    assert float(rule.checked) == float(at.best_loss)
    assert torch.equal(at.x_adv, at.best) is halves
    assert torch.equal(at.gradient, at.best_gradient) is halves


@pytest.mark.parametrize("steps", [100, 200, 1000])
def test_checkpoints_are_those_of_the_formula(steps: int) -> None:
    assert sorted(halving_checkpoints(steps)) == papers_checkpoints(steps)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_run_starts_on_the_border_of_the_ball(norm: Norm) -> None:
    x = torch.full((20, 1, 5, 5), 0.5)
    eps = EPS[norm]
    delta = (apgd_start(x, PerturbationBudget(norm, eps), torch.Generator().manual_seed(0)) - x).flatten(1)
    size = {"linf": delta.abs().amax(dim=1), "l2": delta.norm(dim=1), "l1": delta.abs().sum(dim=1)}[norm]
    torch.testing.assert_close(size, torch.full((20,), eps), atol=1e-5, rtol=1e-5)
    assert bool((delta > 0).any())
    assert bool((delta < 0).any())
