"""What the usual normalisations would give, where nobody says how the pixels of a network were prepared.

A network that tolerates another scale is nearly as accurate on pixels that were not normalised as it was trained on,
and its robust accuracy is that of another classifier: accuracy alone cannot tell, so both figures are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import TargetError
from secure_ai.core.statistics import mcnemar_exact
from secure_ai.core.trust import CheckOutcome
from secure_ai.data.dataset import Dataset
from secure_ai.models.preflight.calls import MIN_SAMPLES, Preflight, rebuilt
from secure_ai.models.preflight.preprocessing import NORMALISATIONS
from secure_ai.models.preflight.provenance import INPUT, same_preparation
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.suite.result import SuiteResult

SAMPLES = 100
CHEAP = "pgd:steps=10"
SIGNIFICANT = 0.05


def with_usual_inputs(checked: Preflight, data: Dataset, budget: PerturbationBudget, seed: int) -> Preflight:
    """Preflight whose `input-normalisation`, where it could not run, says what the usual normalisations would give.

    Only for targets with gradients, in linf and l2: a short PGD on at most 100 images a normalisation.

    Raises:
        SecureAIError: what `run_suite` raises on pixels as given.
        KeyboardInterrupt: interrupted.
    """
    target = checked.target
    ways = [InputTransform(mean=mean, std=std, channels_last=target.transform.channels_last)
            for mean, std in NORMALISATIONS.get(target.input_shape[0], ())]  # fmt: skip
    ways = [way for way in ways if not same_preparation(way, target.transform, target.input_shape[0])]
    unknown = any(made.id == INPUT and made.outcome is CheckOutcome.NOT_RUN for made in checked.checks)
    if not unknown or not ways or target.access != "gradients" or budget.norm not in ("linf", "l2"):
        return checked
    if len(data) < MIN_SAMPLES or budget.eps == 0:
        return checked
    told = _told(target, ways, data, budget, seed)
    (before,) = [one.evidence for one in checked.checks if one.id == INPUT]
    now = f"{before}. {told}"
    checks = tuple(replace(one, evidence=now) if one.id == INPUT else one for one in checked.checks)
    return replace(checked, checks=checks, fixes=tuple(now if fix == before else fix for fix in checked.fixes))


def _told(
    target: NetworkTarget, ways: Sequence[InputTransform], data: Dataset, budget: PerturbationBudget, seed: int
) -> str:
    """The figures of the ways that differ beyond chance, beside those of the pixels as given."""
    spread = np.linspace(0, len(data) - 1, min(len(data), SAMPLES)).astype(np.int64)
    few = data.select(spread, "for the usual normalisations")
    given = _attacked(target, few, budget, seed)
    rows = []
    for way in ways:
        try:
            other = _attacked(rebuilt(target, transform=way), few, budget, seed)
        except TargetError:
            continue  # it refuses such pixels
        if _differs(given.clean_correct, other.clean_correct) or _differs(given.robust, other.robust):
            flags = f"--mean {','.join(map(str, way.mean))} --std {','.join(map(str, way.std))}"
            rows.append(f"{flags}: {_figures(other)}")
    if not rows:
        return f"The usual normalisations change neither figure beyond chance ({CHEAP}, {len(few)} images)"
    return f"On {len(few)} images under {CHEAP}: as given {_figures(given)}; {'; '.join(rows)}"


def _attacked(target: NetworkTarget, data: Dataset, budget: PerturbationBudget, seed: int) -> SuiteResult:
    attacks = parse_attacks(CHEAP, budget.norm, "gradients")
    result = run_suite(rebuilt(target), data.images, data.labels, budget=budget, attacks=attacks, seed=seed)
    if result.interruption is not None:
        raise result.interruption
    return result


def _figures(result: SuiteResult) -> str:
    clean, robust = int(result.clean_correct.sum()), int(result.robust.sum())
    return f"{100 * clean / result.n:.0f} % clean, {100 * robust / result.n:.0f} % robust"


def _differs(one: np.ndarray, other: np.ndarray) -> bool:
    return mcnemar_exact(int((one & ~other).sum()), int((other & ~one).sum())) < SIGNIFICANT
