"""DDN: decoupled direction and norm (1811.09600), a minimum-norm attack for l2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secure_ai.red.evasion.contract import STEPS, AttackEntry, Passes, Shard, on_shard
from secure_ai.red.evasion.math.active_set import ActiveSamples, keep_samples, per_sample
from secure_ai.red.evasion.math.input_gradient import evaluate
from secure_ai.red.evasion.math.losses import cross_entropy
from secure_ai.red.evasion.math.scale import unit_sized
from secure_ai.red.evasion.math.schedules import annealed

FIRST_RADIUS, STEP_SIZE = 1.0, (1.0, 0.01)  # step size from and to (1811.09600, section 4)
SATURATED = 1e-6  # a cross-entropy below it has no gradient left in float32
TINY = 1e-12


@dataclass(slots=True)
class _State:
    """`x_adv` lies within the present `radius` (R,)."""

    x_adv: Tensor
    radius: Tensor


@on_shard
def ddn(shard: Shard, *, steps: int = 100, gamma: float = 0.05, minimize: bool = True) -> None:
    """Decoupled direction and norm (1811.09600, algorithm 1), l2.

    The direction follows the cross-entropy's gradient; the radius shrinks by `gamma` after a success and grows by it
    after a failure.

    Note:
        Where the softmax is saturated the logit margin's gradient takes the place of the vanished one.

    Args:
        steps: gradient updates.
        gamma: relative change of the radius.
        minimize: look for the smallest success; false: a sample leaves at its first success within eps.
    """
    best, samples = shard.best, shard.best.samples()
    state = _State(samples.x.clone(), samples.x.new_full((len(samples),), FIRST_RADIUS))
    for step in range(steps + 1):
        if not len(samples):
            break
        logits, _, gradient = evaluate(
            shard.target, state.x_adv, lambda logits: _loss(logits, samples), gradient=step < steps
        )
        adversarial = best.offer_nearest(samples, state.x_adv, logits, "l2")
        gradient = unit_sized(gradient)
        direction = gradient / per_sample(gradient.flatten(1).norm(dim=1).clamp_min(TINY))
        delta = state.x_adv - samples.x + annealed(STEP_SIZE, step, steps) * direction
        state.radius = state.radius * torch.where(adversarial, 1 - gamma, 1 + gamma)
        scale = state.radius / delta.flatten(1).norm(dim=1).clamp_min(TINY)
        state.x_adv = (samples.x + delta * per_sample(scale)).clamp_(0, 1)
        keep_samples(best.unfinished(samples, shard.budget.eps, minimize=minimize), samples, state)


def _loss(logits: Tensor, samples: ActiveSamples) -> Tensor:
    if samples.target_label is not None:
        return -cross_entropy(logits, samples.target_label)
    loss = cross_entropy(logits, samples.y)
    return torch.where(loss > SATURATED, loss, samples.criterion.margin(logits))


ENTRY = AttackEntry(
    name="ddn",
    attack=ddn,
    norms=("l2",),
    knowledge="white-box",
    kind="minimal",
    source="Rony et al., 1811.09600, algorithm 1",
    limits={"steps": STEPS, "gamma": (1e-6, 0.5)},
    passes=lambda settings, classes, norm: Passes(settings["steps"] + 1, settings["steps"]),
    iterative=lambda settings: settings["steps"] > 1,
)
