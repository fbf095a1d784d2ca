"""Square: random search with square windows, from scores alone (1912.00049; l1 as in AutoAttack)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.attacks.square_shapes import fraction_at, pattern, place, signs, tiled, window_side
from secure_ai.red.evasion.contract import QUERIES, RESTARTS, AttackEntry, CountsAs, Passes, Shard, on_shard
from secure_ai.red.evasion.math.active_set import ActiveSamples, Best, keep_samples, per_sample
from secure_ai.red.evasion.math.losses import cross_entropy
from secure_ai.red.evasion.math.projections import project

TINY = 1e-12
L1_SLACK = 1e-6  # relative: aim this much inside the l1 ball, where the sum of many values rounds


@dataclass(slots=True)
class _State:
    """What a search keeps of each sample.

    Attributes:
        low, high: linf: the two values a pixel may take; None else.
        best: the best point so far, with its loss (lower is better).
    """

    low: Tensor | None
    high: Tensor | None
    best: Tensor
    loss: Tensor

    @classmethod
    def start(cls, x: Tensor, x_adv: Tensor, budget: PerturbationBudget) -> _State:
        """At `x_adv`, of which no loss is known yet."""
        box = budget.norm == "linf"
        return cls(
            low=(x - budget.eps).clamp_(min=0) if box else None,
            high=(x + budget.eps).clamp_(max=1) if box else None,
            best=x_adv,
            loss=x.new_full((len(x),), torch.inf),
        )


@dataclass(frozen=True, slots=True)
class _Window:
    """One random window for the whole shard: where, what goes in, with which sign, and (l2, l1) what is emptied."""

    place: tuple[slice, slice]
    sign: Tensor
    pattern: Tensor
    emptied: tuple[slice, slice]


@on_shard
def square(
    shard: Shard, *, query_budget: int = 5000, restarts: int = 1, p_init: float = 0.8, rescale_schedule: bool = False
) -> None:
    """Square attack (1912.00049, algorithms 1 to 3), on the margin loss; towards `target_label` on cross-entropy.

    The first query is that of the start. A window that changes nothing costs no query, unless the network is random:
    its output is known, and the result the same. All samples of the shard share the place of the window, each draws its
    own signs. No gradients.

    Args:
        query_budget: windows tried per sample and restart, so the most model calls.
        p_init: fraction of the image that the first windows cover.
        rescale_schedule: spread the falling window sizes over `query_budget`; as it stands the schedule is that of
            10,000 queries, which AutoAttack cuts off at 5,000.

    The result is the first success, else the point with the best loss of all restarts.
    """
    target, budget, best = shard.target, shard.budget, shard.best
    for _ in range(restarts):
        start = square_start(best.x, budget, shard.generator)  # for the whole shard, before any sample is dropped
        samples = best.unbroken()
        if not len(samples):
            break
        state = _State.start(samples.x, start[samples.index], budget)
        _query(target, samples, state, state.best, best, first=True)
        for query in range(query_budget - 1):
            if not len(samples):
                break
            fraction = fraction_at(query, p_init, query_budget, rescale=rescale_schedule)
            window = _random_window(best.x, fraction, budget, shard.generator)
            _query(target, samples, state, _proposal(samples, state, window, budget), best)
        never = torch.zeros_like(samples.index, dtype=torch.bool)
        best.offer(samples.index, state.best, adversarial=never, score=-state.loss)


def _query(
    target: Target, samples: ActiveSamples, state: _State, x_adv: Tensor, best: Best, *, first: bool = False
) -> None:
    """One query of every sample; keep what is better, drop samples that are adversarial."""
    queried = (
        torch.arange(len(x_adv), device=x_adv.device)
        if first or not target.deterministic
        else _changed(x_adv, state.best)
    )
    criterion = samples.criterion.at(queried)
    logits = target.logits(x_adv[queried], rows=samples.index[queried])
    margin = criterion.margin(logits)
    loss = -margin if criterion.target_label is None else cross_entropy(logits, criterion.target_label)
    adversarial, improved = criterion.is_clearly_adversarial(logits, margin), loss < state.loss[queried]
    kept = queried[improved]
    state.loss[kept] = loss[improved]
    state.best[kept] = x_adv[kept]
    if bool(adversarial.any()):
        done = queried[adversarial]
        best.add_success(samples.index[done], x_adv[done])
        unbroken = torch.ones_like(samples.index, dtype=torch.bool)
        unbroken[done] = False
        keep_samples(unbroken, samples, state)


def _changed(x_adv: Tensor, best: Tensor) -> Tensor:
    """Samples whose window changes anything, as positions among (R,): of the others the network's output is known.

    On digits a fifth of AutoAttack's 5,000 windows change nothing.
    """
    return (x_adv != best).flatten(1).any(dim=1).nonzero().squeeze(1)


def square_start(x: Tensor, budget: PerturbationBudget, generator: torch.Generator) -> Tensor:
    """Linf: vertical stripes of plus or minus eps; l2 and l1: a grid of patterns (section 3.3 and 3.4)."""
    count, channels, _, width = x.shape
    if budget.norm == "linf":
        return (x + budget.eps * signs((count, channels, 1, width), generator).to(x.device)).clamp_(0, 1)
    delta = tiled(tuple(x.shape), budget.norm, generator).to(x.device)
    if budget.norm == "l1":
        return project(x + delta, x, budget)
    return _to_l2_sphere(delta, x, budget.eps)


def _random_window(x: Tensor, fraction: float, budget: PerturbationBudget, generator: torch.Generator) -> _Window:
    count, channels, height, width = x.shape
    side = window_side(fraction, height, width, budget.norm)
    at = place(height, width, side, generator)
    sign = signs((count, channels, 1, 1), generator).to(x.device)
    if budget.norm == "linf":
        return _Window(at, sign, x.new_ones((1, 1)), at)
    shape = pattern(side, budget.norm, generator).to(x.device)
    return _Window(at, sign, shape, place(height, width, side, generator))


def _proposal(samples: ActiveSamples, state: _State, window: _Window, budget: PerturbationBudget) -> Tensor:
    sign = window.sign[samples.index]
    if state.low is not None and state.high is not None:
        at = (slice(None), slice(None), *window.place)
        x_adv = state.best.clone()
        x_adv[at] = torch.where(sign > 0, state.high[at], state.low[at])
        return x_adv
    delta = _moved_mass(state.best - samples.x, window, sign, budget)
    if budget.norm == "l1":
        return project(samples.x + delta, samples.x, PerturbationBudget("l1", budget.eps * (1 - L1_SLACK)))
    return _to_l2_sphere(delta, samples.x, budget.eps)


def _moved_mass(delta: Tensor, window: _Window, sign: Tensor, budget: PerturbationBudget) -> Tensor:
    """Algorithm 3: empty one window, and give its mass and what eps leaves over to another, with a new pattern."""
    order = 2 if budget.norm == "l2" else 1
    at = (slice(None), slice(None), *window.place)
    empty = (slice(None), slice(None), *window.emptied)
    inside = torch.zeros(delta.shape[2:], dtype=torch.bool, device=delta.device)
    inside[window.place] = inside[window.emptied] = True
    mass = _mass(delta, order)
    spare = (budget.eps**order - mass.sum(dim=1, keepdim=True)).clamp_min(0) / delta.shape[1]
    available = spare + _mass(delta * inside, order)
    old = delta[at]
    shape = sign * window.pattern + old / (_norm(old, order) + TINY)
    shape *= (available[..., None, None] if order == 1 else available[..., None, None].sqrt()) / (
        _norm(shape, order) + TINY
    )
    delta[empty] = 0
    delta[at] = shape
    return delta


def _mass(delta: Tensor, order: int) -> Tensor:
    """Per sample and channel: the sum of squares (order 2) or of sizes (order 1), (R, C)."""
    return (delta.square() if order == 2 else delta.abs()).sum(dim=(2, 3))


def _norm(delta: Tensor, order: int) -> Tensor:
    mass = _mass(delta, order)[..., None, None]
    return mass.sqrt() if order == 2 else mass


def _to_l2_sphere(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    norm = delta.flatten(1).norm(dim=1)
    return (x + delta * per_sample(eps / norm.clamp_min(TINY))).clamp_(0, 1)


_FIRST_WINDOW = {"p_init": 0.05}  # 1912.00049, section 5: the smallest fraction of an image that it starts with

ENTRY = AttackEntry(
    name="square",
    attack=square,
    norms=("linf", "l2", "l1"),
    knowledge="score-based",
    kind="budget",
    source="Andriushchenko et al., 1912.00049, algorithms 1 to 3; l1 as in AutoAttack",
    limits={"query_budget": QUERIES, "restarts": RESTARTS, "p_init": (1e-4, 1.0)},
    passes=lambda settings, classes, norm: Passes(settings["restarts"] * settings["query_budget"], 0),
    iterative=lambda settings: settings["query_budget"] > 1,
    counts_as=CountsAs(
        role="query",
        everywhere={"query_budget": 100} | _FIRST_WINDOW,
        near={"query_budget": 4000} | _FIRST_WINDOW,
    ),
)
