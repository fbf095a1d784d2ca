"""Square step by step: each query must be what 1912.00049, algorithms 1 to 3, make of the draws and the best so far.

The reference draws from the same stream, in the order that the attack documents; the sizes, the places' range and the
patterns have their own tests (`test_square.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.red.evasion.attacks.square import _moved_mass, _Window
from secure_ai.red.evasion.attacks.square_shapes import pattern, tiled
from secure_ai.red.evasion.math.losses import margin
from secure_ai.red.evasion.math.projections import project

SHAPE = (2, 9, 9)
EPS: dict[Norm, float] = {"linf": 0.1, "l2": 0.8, "l1": 3.0}
QUERIES = 14  # the fraction halves after query 10
SEED = 5  # of the attack's stream, as `run` has it


def random_signs(shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=draw, dtype=torch.float32) * 2 - 1


def side_at(query: int, norm: Norm) -> int:
    """0.8 of 9 x 9 values is 8 x 8; half of that 5.7 x 5.7. In l2 and l1 sides are odd."""
    early = query <= 10
    return (8 if early else 6) if norm == "linf" else (9 if early else 7)


def corner(side: int, draw: torch.Generator) -> tuple[slice, slice]:
    top, left = (int(torch.randint(max(9 - side, 1), (), generator=draw)) for _ in range(2))
    return slice(top, top + side), slice(left, left + side)


def with_mass(delta: Tensor, at: tuple[slice, slice], empty: tuple[slice, slice], new: Tensor, budget: Any) -> Tensor:
    """Algorithm 3 for one sample (C, H, W), channel by channel; `new` (C, side, side) is the signed pattern."""
    order, result = 2 if budget.norm == "l2" else 1, delta.clone()
    spare = max(0.0, budget.eps**order - float(delta.abs().pow(order).sum())) / len(delta)
    for c in range(len(delta)):
        union = torch.zeros(9, 9, dtype=torch.bool)
        union[at] = union[empty] = True
        mass = float(delta[c][union].abs().pow(order).sum()) + spare
        old = delta[c][at]
        shape = new[c] + old / (old.norm(order) + 1e-12)
        result[c][empty] = 0.0
        result[c][at] = shape / (shape.norm(order) + 1e-12) * mass ** (1 / order)
    return result


def inside(delta: Tensor, x: Tensor, norm: Norm, eps: float) -> Tensor:
    """One sample: l2: scaled to norm eps, then into [0, 1]; l1: projected onto both."""
    if norm == "l2":
        return torch.clamp(x + delta * eps / delta.norm(), 0, 1)
    return project((x + delta)[None], x[None], PerturbationBudget("l1", eps))[0]


def start(x: Tensor, norm: Norm, draw: torch.Generator) -> Tensor:
    if norm == "linf":  # stripes: one sign for each column
        return (x + EPS["linf"] * random_signs((len(x), 2, 1, 9), draw)).clamp(0, 1)
    delta = tiled((len(x), *SHAPE), norm, draw)
    return torch.stack([inside(delta[i], x[i], norm, EPS[norm]) for i in range(len(x))])


def proposal(best: Tensor, x: Tensor, query: int, norm: Norm, draw: torch.Generator) -> Tensor:
    side, budget = side_at(query, norm), PerturbationBudget(norm, EPS[norm])
    at, sign = corner(side, draw), random_signs((len(x), 2, 1, 1), draw)
    if norm == "linf":
        new, value = best.clone(), (x + EPS["linf"] * sign).clamp(0, 1)
        new[:, :, at[0], at[1]] = value[:, :, at[0], at[1]]
        return new
    shape = pattern(side, norm, draw)
    empty = corner(side, draw)
    moved = [with_mass(best[i] - x[i], at, empty, sign[i] * shape, budget) for i in range(len(x))]
    return torch.stack([inside(moved[i], x[i], norm, EPS[norm]) for i in range(len(x))])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("targeted", [False, True])
def test_every_query_is_the_papers(norm: Norm, targeted: bool, recorder_of: Callable[..., Any], run: Any) -> None:
    target = recorder_of(8.0, SHAPE)
    x = torch.rand((3, *SHAPE), generator=torch.Generator().manual_seed(2))
    y = torch.zeros(3, dtype=torch.int64)
    goal = torch.tensor([1, 2, 3]) if targeted else None
    x_adv = run("square", target, x, y, norm, EPS[norm], query_budget=QUERIES, target_label=goal, seed=SEED)
    draw = torch.Generator().manual_seed(SEED)
    best, better = start(x, norm, draw), 0
    torch.testing.assert_close(target.seen[0], best, atol=1e-5, rtol=0)
    best = target.seen[0]
    assert len(target.seen) == QUERIES
    for query, seen in enumerate(target.seen[1:]):
        torch.testing.assert_close(seen, proposal(best, x, query, norm, draw), atol=2e-5, rtol=0)
        before, after = (objective(target.network(images), y, goal) for images in (best, seen))
        better += int((after > before).sum())
        best = torch.where((after > before)[:, None, None, None], seen, best)
    assert torch.equal(x_adv, best)
    assert 0 < better < 3 * QUERIES


def objective(logits: Tensor, y: Tensor, goal: Tensor | None) -> Tensor:
    """What is maximised: the margin, or the log-probability of the class aimed at."""
    return margin(logits, y) if goal is None else logits.log_softmax(dim=1).gather(1, goal[:, None]).squeeze(1)


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("l1", 1)])
def test_what_eps_leaves_over_goes_into_the_window(norm: Norm, order: int) -> None:
    """By hand: channel 0 has a mass of 0.3 in the emptied window and 0.2 outside both, channel 1 has none.

    The spare 0.5 is split evenly: the window gets 0.3 + 0.25 in channel 0 and 0.25 in channel 1.
    """
    delta = torch.zeros(1, 2, 9, 9)
    delta[0, 0, 1, 1], delta[0, 0, 8, 8] = 0.3 ** (1 / order), -(0.2 ** (1 / order))
    at, emptied = (slice(4, 7), slice(4, 7)), (slice(0, 3), slice(0, 3))
    window = _Window(at, torch.ones(1, 2, 1, 1), torch.full((3, 3), 1 / 9 ** (1 / order)), emptied)
    moved = _moved_mass(delta.clone(), window, window.sign, PerturbationBudget(norm, 1.0))[0]
    mass = moved.abs().pow(order)
    torch.testing.assert_close(mass[:, 4:7, 4:7].sum(dim=(1, 2)), torch.tensor([0.55, 0.25]))
    assert float(mass[:, 0:3, 0:3].sum()) == 0
    assert float(mass.sum()) == pytest.approx(1.0)
    assert float(moved[0, 8, 8]) == float(delta[0, 0, 8, 8])
