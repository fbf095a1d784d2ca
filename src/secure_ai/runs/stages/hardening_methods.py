"""The methods of `harden`: each is one function that makes a training method, and one row of `METHODS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from secure_ai.blue.certify.crown import BATCH as CROWN_BATCH
from secure_ai.blue.certify.crown import margins as crown_bounds
from secure_ai.blue.certify.interval import certified
from secure_ai.blue.training.certified_training import interval_bounds
from secure_ai.blue.training.methods import Adversary, Method
from secure_ai.blue.training.objectives import Objective, against, gaussian, mart, on_examples, trades, weight_perturbed
from secure_ai.blue.training.schedules import Schedule, piecewise, ramp
from secure_ai.core.budget import Norm, largest_budget
from secure_ai.runs.stages.adversaries import named_attack, one_step_with_noise, pgd_every_step

RAMP = 0.3  # fraction of the training over which eps grows: without it a network stays constant for epochs at 0.3
BEYOND = 16 / 15  # trained at a little more than is promised, e.g. 0.32 for 0.3
STEPS = ((0.0, 3.0), (0.4, 6.0))  # of PGD: few while eps and network are small
AWP_BEGINS = 0.4
TRADES_BETA, MART_BETA = 1.0, 5.0
SIGMA = 1 / 3  # of the radius: noise of 0.5 for a radius of 1.5
BOX_BEYOND = 0.05  # added to eps, for interval bounds
BOX_RAMP, NATURAL_WEIGHT = 0.6, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a method is asked for.

    Attributes:
        dimensions: values of an image.
        adversary: an attack of the catalogue to train against; empty: the method's own.
        awp: relative size of adversarial weight perturbation; 0: none.
    """

    norm: Norm
    eps: float
    classes: int
    dimensions: int
    adversary: str = ""
    awp: float = 0.0

    @property
    def growing(self) -> Schedule:
        """Eps over the training."""
        return ramp(min(BEYOND * self.eps, largest_budget(self.norm, self.dimensions).eps), RAMP)


@dataclass(frozen=True, slots=True, kw_only=True)
class HardeningMethod:
    """A row of the table.

    Attributes:
        make: makes the training method.
        fallback: for single-step training: what the guard switches to.
        source: paper, section.
        norms: that it can be asked for.
        chosen_by: what decides which weights are kept: accuracy under `attack` or under `noise`, or certified by a
            key of `BOUNDS`.
        epochs, rate: where the user names none; rate is the peak.
        options: of `adversary` and `awp`, those it takes.
        from_scratch: whether it starts from fresh weights of its own kind.
    """

    make: Callable[[Wanted], Method]
    source: str
    norms: tuple[Norm, ...]
    chosen_by: Literal["attack", "ibp", "crown-ibp", "noise"] = "attack"
    fallback: Callable[[Wanted], Method] | None = None
    epochs: int = 14
    rate: float = 3e-3
    options: frozenset[str] = frozenset()
    from_scratch: bool = False

    @property
    def metric(self) -> str:
        """The name of what chooses the weights."""
        return {"attack": "robust_accuracy", "noise": "accuracy_under_noise"}.get(self.chosen_by, "certified_accuracy")


def _adversary(wanted: Wanted, loss: str = "cross-entropy") -> Adversary:
    if wanted.adversary:
        return named_attack(wanted.adversary, wanted.norm, wanted.growing, wanted.classes)
    return pgd_every_step(wanted.norm, wanted.growing, piecewise(*STEPS), loss)


def _objective(objective: Objective, wanted: Wanted) -> Objective:
    return weight_perturbed(objective, wanted.awp, AWP_BEGINS) if wanted.awp else objective


def pgd_training(wanted: Wanted) -> Method:
    """Adversarial training: every sample is replaced by its example of PGD, or of the attack that is named."""
    return against(_adversary(wanted), _objective(on_examples, wanted))


def trades_training(wanted: Wanted) -> Method:
    """TRADES."""
    return against(_adversary(wanted, "kl"), _objective(trades(TRADES_BETA), wanted))


def mart_training(wanted: Wanted) -> Method:
    """MART."""
    return against(_adversary(wanted), _objective(mart(MART_BETA), wanted))


def fast_training(wanted: Wanted) -> Method:
    """One step an example, from noise; only behind the guard, which falls back to `pgd_training`."""
    return against(one_step_with_noise(wanted.growing), _objective(on_examples, wanted))


def gaussian_training(wanted: Wanted) -> Method:
    """Gaussian noise of a third of the radius, for randomised smoothing."""
    return gaussian(SIGMA * wanted.eps)


def ibp_training(wanted: Wanted) -> Method:
    """Interval bounds, certified by `secure-ai certify --method ibp`."""
    return interval_bounds(_box(wanted), ramp(NATURAL_WEIGHT, BOX_RAMP, start=1.0))


def crown_ibp_training(wanted: Wanted) -> Method:
    """CROWN-IBP: its bounds while the box grows, less and less of them, interval bounds from there on."""
    return interval_bounds(
        _box(wanted), ramp(NATURAL_WEIGHT, BOX_RAMP, start=1.0), crown_weight=ramp(0.0, BOX_RAMP, start=1.0)
    )


def _box(wanted: Wanted) -> Schedule:
    return ramp(min(wanted.eps + BOX_BEYOND, 1.0), BOX_RAMP)


BOUNDS: dict[str, Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]] = {
    "ibp": certified,
    "crown-ibp": partial(certified, bound=crown_bounds, batch_size=CROWN_BATCH),
}
"""(network, lower, upper, y) -> (N,) bool, proven; the method of `certify` by the same name."""
GRADIENT_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")

METHODS: dict[str, HardeningMethod] = {
    "pgd": HardeningMethod(
        make=pgd_training, source="Madry et al., 1706.06083; eps ramp and averaged weights", norms=GRADIENT_NORMS,
        options=frozenset({"adversary", "awp"}),
    ),
    "trades": HardeningMethod(
        make=trades_training, source="Zhang et al., 1901.08573, eq. 5; beta 1", norms=GRADIENT_NORMS, epochs=20,
        options=frozenset({"awp"}),
    ),
    "mart": HardeningMethod(
        make=mart_training, source="Wang et al., ICLR 2020, eq. 11; beta 5", norms=GRADIENT_NORMS, epochs=20,
        options=frozenset({"adversary", "awp"}),
    ),
    "fast": HardeningMethod(
        make=fast_training, source="de Jorge et al., 2202.01181; behind a guard", norms=("linf",),
        fallback=pgd_training, options=frozenset({"awp"}),
    ),
    "gaussian": HardeningMethod(
        make=gaussian_training, source="Cohen et al., 1902.02918, section 3.3; sigma eps / 3", norms=("l2",),
        chosen_by="noise", epochs=10, rate=1e-3,
    ),
    "ibp": HardeningMethod(
        make=ibp_training, source="Gowal et al., 1810.12715; initialised as Shi et al., 2103.17268", norms=("linf",),
        chosen_by="ibp", epochs=60, rate=1e-3, from_scratch=True,
    ),
    "crown-ibp": HardeningMethod(
        make=crown_ibp_training, source="Zhang et al., 1906.06316; initialised as Shi et al., 2103.17268",
        norms=("linf",), chosen_by="crown-ibp", epochs=60, rate=1e-3, from_scratch=True,
    ),
}  # fmt: skip
