"""The measure `distance`: the median over a sample of the distance to the nearest adversarial example found."""

from __future__ import annotations

import math

import numpy as np
import torch

from secure_ai.core.budget import Norm, largest_budget
from secure_ai.core.comparisons import Distance
from secure_ai.core.result import Result
from secure_ai.core.results import rate
from secure_ai.core.statistics import BEYOND_CHANCE, beyond_chance, median_interval
from secure_ai.core.trust import Check, check
from secure_ai.data.splits import sample
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.suite.verify import measured_distance
from secure_ai.runs.engine.measure import Context, Measure, Passes, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.robust import AttackSettings, judged_single

ATTACKS: dict[Norm, str] = {"linf": "fmn", "l2": "ddn", "l1": "fmn", "l0": "fmn"}


class DistanceSettings(Settings):
    """A minimum-norm attack: DDN for l2, FMN for the others.

    Attributes:
        n: of the sample of `first_n` that other figures are over.
    """

    norm: Norm
    steps: int
    n: int
    first_n: int | None = None


def median_distance(subject: Subject, settings: DistanceSettings, context: Context) -> Result:
    """The median distance, an upper bound of the true one, by one attack: so its trust is never `reliable`.

    A sample that is misclassified unchanged has distance 0, one that the attack never misclassified has distance
    infinity: the median is over all samples, never over the successes.
    """
    data = sample(sample(context.data("test"), settings.first_n, context.seed), settings.n, context.seed)
    target = subject.checked(data).target
    if target.access != "gradients":
        reason = f"the median distance: its attacks need gradients, and the network gives {target.access} only"
        return Result(not_tested=(reason,))
    budget = largest_budget(settings.norm, target.dimensions)
    attack = AttackSettings(
        attack=f"{ATTACKS[settings.norm]}:steps={settings.steps}", norm=settings.norm, eps=budget.eps
    )
    found = judged_single(subject, data, attack, context, keep_examples=True)
    found = found.also(_found_check(found.result))
    distances = _distances(found.result, data.images)
    median, low, high = median_interval(distances.tolist())
    entry = Distance(
        id=f"{subject.id}/median-distance",
        model=subject.id,
        metric="median_min_distance",
        norm=settings.norm,
        attack=attack.attack,
        n=len(data),
        median=_finite(median),
        ci_low=_finite(max(low, 0.0)),
        ci_high=_finite(high),
        found=rate(int(np.isfinite(distances).sum()), len(data)),
        clean_errors=int((~found.result.clean_correct).sum()),
        infinite=_infinite(median, high),
        note=data.note,
        trust=found.trust,
    )
    return Result(distances=(entry,))


def _distances(result: SuiteResult, images: np.ndarray) -> np.ndarray:
    """(N,) float64: 0 for a clean error, infinity where no example was found."""
    distances = np.where(result.clean_correct, np.inf, 0.0)
    broken = np.flatnonzero(result.broken_by >= 0)
    if result.x_adv is not None and len(broken):
        examples = torch.from_numpy(np.array(result.x_adv[broken]))
        distances[broken] = measured_distance(examples, images_to_float(images[broken]), result.budget).numpy()
    return distances


def _found_check(result: SuiteResult) -> Check:
    """Fails where the attack broke not every sample: without a bound on the distance every image can be any other."""
    missed, n = int((result.clean_correct & (result.broken_by < 0)).sum()), len(result.clean_correct)
    evidence = (
        f"at any distance in {result.budget.norm} {missed} of {n} samples were not misclassified; {BEYOND_CHANCE}"
    )
    return check("unbounded-distance", not beyond_chance(missed, n), evidence)


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else round(float(value), 9)


def _infinite(median: float, high: float) -> str:
    if math.isinf(median):
        return "the median is infinite: the attack broke fewer than half of the samples"
    return "the upper end of the interval is infinite: too few samples were broken" if math.isinf(high) else ""


def distance_passes(settings: DistanceSettings, n: int, holds: float) -> Passes:
    """A forward and a backward pass a step."""
    return Passes(1.0 * settings.n * settings.steps, 1.0 * settings.n * settings.steps)


def distance_row(settings: DistanceSettings) -> Measure[DistanceSettings]:
    """The row."""
    return Measure(
        id="distance", function=median_distance, settings=settings, needs=frozenset({"test", "gradients"}),
        passes=distance_passes,
    )  # fmt: skip
