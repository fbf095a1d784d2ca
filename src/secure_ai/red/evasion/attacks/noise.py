"""Random noise: the control that every real attack must beat."""

from __future__ import annotations

from secure_ai.red.evasion.contract import AttackEntry, Passes, Shard, on_shard
from secure_ai.red.evasion.math.projections import random_start


@on_shard
def noise(shard: Shard, *, draws: int = 1) -> None:
    """Uniform noise in the ball, clipped to [0, 1]; one forward pass a random sample.

    Where noise breaks what gradient-based attacks could not, their gradients are masked (1802.00420, section 3.1).

    Args:
        draws: random points tried for an image; a broken image gets no more.

    The result is the first point that is adversarial, else the one with the largest margin.
    """
    best = shard.best
    for _ in range(draws):
        point = random_start(best.x, shard.budget, shard.generator)  # for the whole shard, before any sample is dropped
        samples = best.unbroken()
        if not len(samples):
            break
        x_adv = point[samples.index]
        logits, criterion = shard.target.logits(x_adv), samples.criterion
        adversarial, margin = criterion.is_adversarial(logits), criterion.margin(logits)
        best.offer(samples.index, x_adv, adversarial=adversarial, score=margin)


ENTRY = AttackEntry(
    name="noise",
    attack=noise,
    norms=("linf", "l2", "l1", "l0"),
    knowledge="none",  # it searches nothing: not the query-based attack that a verdict needs
    kind="budget",
    source="uniform in the ball, clipped to [0, 1]; the control of Athalye et al., 1802.00420, section 3.1",
    limits={"draws": (1, 100_000)},
    passes=lambda settings, classes, norm: Passes(settings["draws"], 0),
)
