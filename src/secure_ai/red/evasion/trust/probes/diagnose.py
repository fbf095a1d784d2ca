"""All probes, one after the other: can attacks work on this network, and did this suite's?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.trust import Check
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import AttackPlan, Progress, ignore_progress
from secure_ai.red.evasion.trust.probes import distilled, longer, plain_pgd
from secure_ai.red.evasion.trust.probes.along import along_the_attack
from secure_ai.red.evasion.trust.probes.binarisation import binarisation
from secure_ai.red.evasion.trust.probes.distilled import distilled_transfer
from secure_ai.red.evasion.trust.probes.forward import optimises_inside, random_without_eot
from secure_ai.red.evasion.trust.probes.longer import longer_attack
from secure_ai.red.evasion.trust.probes.one_step import one_step
from secure_ai.red.evasion.trust.probes.plain_pgd import pgd_falls_short
from secure_ai.red.evasion.trust.probes.probe import Probe, drawn
from secure_ai.red.evasion.trust.probes.surface import gradient_matches_change, jumps_nearby, step_function
from secure_ai.red.evasion.trust.probes.unbounded import unbounded_attack

Images = np.ndarray | Tensor
Ask = Callable[[], Sequence[Check]]

OF_SURVIVORS = frozenset({plain_pgd.ID, longer.ID, distilled.ID})
"""Ids of the checks of `diagnose_survivors`, which hold for one suite's result only."""


PROBES = (
    "random-without-eot", "optimises-inside", "step-function", "jumps-nearby", "gradient-matches-change",
    "gradients-along-attack", "saturated-loss", "loss-rises", "converged", "unbounded-attack", "one-step-overfitting",
    "label-leaking", plain_pgd.ID, longer.ID, distilled.ID, "binarisation",
)  # fmt: skip
"""Ids of the checks of `diagnose`, in its order."""


def diagnose(
    target: NetworkTarget,
    x: Images,
    y: Images,
    budget: PerturbationBudget,
    seed: int,
    *,
    attacks: Sequence[AttackPlan] = (),
    robust: np.ndarray | None = None,
    progress: Progress = ignore_progress,
) -> tuple[Check, ...]:
    """The checks that need probes of their own, for `judge_suite(more=...)`.

    Cost, whatever N is, measured with suites of 100 steps: 20,000 forward and 8,000 backward passes on an undefended
    network, 38,000 and 22,000 on a robust one; at most 85,000 and 66,000,
    up to 20 times as many with `eot_samples` (20 at most are used). All arithmetic is float32.

    Args:
        x: (N, C, H, W) uint8, or float32 in [0, 1].
        y: (N,) true labels.
        attacks: the suite whose number is judged: whether it averages over randomness, how many steps it takes, and
            what the binarisation test puts to work.
        robust: (N,) bool, what that suite counts as robust; None: `diagnose_survivors` is left out.
        progress: told before each probe how many are done, of how many.

    Raises:
        TargetError: the network raises an error, answers NaN or infinity, or changes its own weights.
    """
    with target.attacked(), torch.random.fork_rng(devices=[]):
        probe = drawn(target, x, y, budget, seed)
        return _asked(
            (
                lambda: (random_without_eot(probe, attacks),),
                lambda: (optimises_inside(probe),),
                lambda: (step_function(probe),),
                lambda: (jumps_nearby(probe),),
                lambda: (gradient_matches_change(probe),),
                lambda: along_the_attack(probe, attacks),
                lambda: (unbounded_attack(probe),),
                lambda: one_step(probe),
                *(() if robust is None else _of_survivors(probe, x, y, robust)),
                lambda: (binarisation(probe, attacks),),
            ),
            progress,
        )


def diagnose_survivors(
    target: NetworkTarget, x: Images, y: Images, budget: PerturbationBudget, seed: int, *, robust: np.ndarray
) -> tuple[Check, ...]:
    """Of `diagnose`, what asks about the images that a suite left, for another budget than the rest was asked at.

    At most 29,000 forward and 25,000 backward passes. Arguments and errors as there.
    """
    with target.attacked(), torch.random.fork_rng(devices=[]):
        return _asked(_of_survivors(drawn(target, x, y, budget, seed), x, y, robust), ignore_progress)


def _of_survivors(probe: Probe, x: Images, y: Images, robust: np.ndarray) -> tuple[Ask, ...]:
    return (
        lambda: (pgd_falls_short(probe, x, y, robust),),
        lambda: (longer_attack(probe, x, y, robust),),
        lambda: (distilled_transfer(probe, x, y, robust),),
    )


def _asked(probes: Sequence[Ask], progress: Progress) -> tuple[Check, ...]:
    found: list[Check] = []
    for done, ask in enumerate(probes):
        progress(done, len(probes))
        found += ask()
    return tuple(found)
