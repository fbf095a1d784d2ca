"""PGD on the logit margin from starts that differ in the network's outputs (ODI, 2003.06878).

Restarts from random points of the ball often end in the same place. Here each starts from Square's stripes or tiles and
first goes where a random mix of the logits rises, so that the restarts begin with different outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.core.seeds import uniform
from secure_ai.red.evasion.attacks.square import square_start
from secure_ai.red.evasion.contract import RESTARTS, STEPS, AttackEntry, Passes, Settings, Shard, on_shard
from secure_ai.red.evasion.math.active_set import keep_samples
from secure_ai.red.evasion.math.input_gradient import evaluate
from secure_ai.red.evasion.math.projections import project, steepest
from secure_ai.red.evasion.math.schedules import annealed


@dataclass(slots=True)
class _State:
    """`mix` (R, K) weighs the logits that the first steps raise."""

    x_adv: Tensor
    mix: Tensor

    def mixed(self, logits: Tensor) -> Tensor:
        """The random mix of logits (R, K), (R,)."""
        return (logits * self.mix).sum(dim=1)


@on_shard
def odi_pgd(shard: Shard, *, odi_steps: int = 2, steps: int = 20, restarts: int = 24) -> None:
    """PGD from output-diversified starts (ODI, 2003.06878); a sample leaves as soon as it is broken.

    Args:
        odi_steps: steps of size eps that raise the random mix of logits; its weights are uniform in [-1, 1].
        steps: steps that raise the margin after those.
        restarts: independent runs; a broken sample starts none.

    The result is the first adversarial iterate, else the one of highest margin in all restarts.

    Note:
        Differs from the paper in the random point that a restart begins with (Square's first guess, 1912.00049,
        sections 3.3 and 3.4, in place of a uniform one) and in the step size, which falls from eps to 0 as half a
        cosine.
    """
    # in units of eps; the first `odi_steps` steps raise the mix
    sizes = [1.0] * odi_steps + [annealed((1.0, 0.0), step, steps) for step in range(steps)]
    target, budget, best = shard.target, shard.budget, shard.best
    for _ in range(restarts):
        start = square_start(best.x, budget, shard.generator)  # for the whole shard, before any sample is dropped
        mix = 2 * uniform((len(best.x), target.num_classes), shard.generator, best.x.device) - 1
        samples = best.unbroken()
        if not len(samples):
            break
        state = _State(start[samples.index], mix[samples.index])
        for step in range(len(sizes) + 1):
            if not len(samples):
                break
            last, criterion = step == len(sizes), samples.criterion
            raised = state.mixed if step < odi_steps else criterion.margin
            logits, _, gradient = evaluate(target, state.x_adv, raised, gradient=not last)
            margin = criterion.margin(logits)
            adversarial = criterion.is_clearly_adversarial(logits, margin)
            best.offer(samples.index, state.x_adv, adversarial=adversarial, score=margin)
            if not last:
                moved = state.x_adv + sizes[step] * budget.eps * steepest(gradient, budget.norm)
                state.x_adv = project(moved, samples.x, budget)
                keep_samples(~adversarial, samples, state)


def _passes(settings: Settings, classes: int, norm: Norm) -> Passes:
    steps = settings["odi_steps"] + settings["steps"]
    return Passes(settings["restarts"] * (steps + 1), settings["restarts"] * steps)


ENTRY = AttackEntry(
    name="odi-pgd",
    attack=odi_pgd,
    norms=("linf", "l2"),
    knowledge="white-box",
    kind="budget",
    source="Tashiro, Song and Ermon, 2003.06878 (ODI); start: 1912.00049, sections 3.3 and 3.4",
    limits={"odi_steps": (0, 1000), "steps": STEPS, "restarts": RESTARTS},
    passes=_passes,
    iterative=lambda settings: settings["odi_steps"] + settings["steps"] > 1,
)
