"""Carlini and Wagner's l2 attack (1608.04644, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.contract import SMALL, STEPS, AttackEntry, Passes, Settings, Shard, on_shard
from secure_ai.red.evasion.math.active_set import ActiveSamples, Best, keep_samples, per_sample
from secure_ai.red.evasion.math.adam import adam_direction
from secure_ai.red.evasion.math.input_gradient import evaluate
from secure_ai.red.evasion.math.scale import to_usual_logits

INSIDE = 0.999999  # keeps the inverse of tanh finite at pixels 0 and 1
HIGHEST_CONST = 1e10  # where the search for the constant stops growing it
GROWTH = 10.0  # of the constant while no success is known


@dataclass(slots=True)
class _State:
    """What a search keeps of each sample.

    Attributes:
        free: tanh-space variable w, x_adv = (tanh(w) + 1) / 2.
        mean, square: Adam's moments of its gradient.
        const: weight of the margin, between `low` and `high`.
        succeeded: (R,) bool: a success with the present constant.
        scale: (R,) what brings the margin to the size that the constants are made for; None before the first pass.
    """

    free: Tensor
    mean: Tensor
    square: Tensor
    const: Tensor
    low: Tensor
    high: Tensor
    succeeded: Tensor
    scale: Tensor | None


@on_shard
def cw(
    shard: Shard,
    *,
    steps: int = 1000,
    binary_search_steps: int = 9,
    learning_rate: float = 0.01,
    initial_const: float = 0.001,
    confidence: float = 0.0,
    minimize: bool = True,
) -> None:
    """Minimise |delta|^2 + c * max(-margin, -confidence) in tanh space with Adam, searching for the smallest c.

    There is no early abort. The margin counts in units of the clean logits' own spread (`to_usual_logits`).

    Args:
        steps: updates for each constant.
        binary_search_steps: constants tried: times 10 until a success, then halving the interval.
        learning_rate: of Adam.
        initial_const: the first constant.
        confidence: kappa, the margin to reach.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.
    """
    best, budget = shard.best, shard.budget
    samples = best.samples()
    state = _begin(samples.x, initial_const)
    for _ in range(binary_search_steps):
        state.free = torch.atanh((2 * samples.x - 1) * INSIDE)
        state.mean, state.square = torch.zeros_like(samples.x), torch.zeros_like(samples.x)
        state.succeeded = torch.zeros_like(samples.index, dtype=torch.bool)
        for step in range(steps + 1):
            if not len(samples):
                return
            gradient = _evaluate(shard.target, samples, state, best, confidence, last=step == steps)
            direction = adam_direction(gradient, state.mean, state.square, step + 1)
            state.free = state.free - learning_rate * direction
            keep_samples(best.unfinished(samples, budget.eps, minimize=minimize), samples, state)
        _next_const(state)


def _begin(x: Tensor, const: float) -> _State:
    ones, nothing = x.new_ones(len(x)), torch.zeros_like(x)
    return _State(
        free=nothing,
        mean=nothing,
        square=nothing,
        const=ones * const,
        low=ones * 0,
        high=ones * HIGHEST_CONST,
        succeeded=ones < 0,
        scale=None,
    )


def _evaluate(
    target: Target, samples: ActiveSamples, state: _State, best: Best, confidence: float, *, last: bool
) -> Tensor:
    """Offer the iterate; the gradient of the objective in tanh space."""
    x_adv = (torch.tanh(state.free) + 1) / 2

    def penalty(logits: Tensor) -> Tensor:
        return state.const * (confidence - samples.criterion.margin(logits)).clamp_min(0)

    logits, _, gradient = evaluate(target, x_adv, penalty, gradient=not last)
    if state.scale is None:  # the clean image
        state.scale = to_usual_logits(logits)
    state.succeeded = state.succeeded | best.offer_nearest(samples, x_adv, logits, "l2", least_margin=confidence)
    pixels = 2 * (x_adv - samples.x) + per_sample(state.scale) * gradient
    return pixels * 2 * x_adv * (1 - x_adv)


def _next_const(state: _State) -> None:
    state.high = torch.where(state.succeeded, torch.minimum(state.high, state.const), state.high)
    state.low = torch.where(state.succeeded, state.low, torch.maximum(state.low, state.const))
    bounded = state.high < HIGHEST_CONST
    state.const = torch.where(bounded, (state.low + state.high) / 2, state.const * GROWTH).clamp_max(HIGHEST_CONST)


def _passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    searches = settings["binary_search_steps"]
    return Passes(searches * (settings["steps"] + 1), searches * settings["steps"])


ENTRY = AttackEntry(
    name="cw",
    attack=cw,
    norms=("l2",),
    knowledge="white-box",
    kind="minimal",
    source="Carlini and Wagner, 1608.04644, section 5",
    limits={
        "steps": STEPS,
        "binary_search_steps": (1, 100),
        "learning_rate": SMALL,
        "initial_const": SMALL,
        "confidence": (0.0, 1000.0),
    },
    passes=_passes,
    iterative=lambda settings: settings["steps"] > 1,
)
