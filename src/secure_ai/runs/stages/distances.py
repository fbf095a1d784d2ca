"""How far the nearest adversarial example is: the median over a sample, from a minimum-norm attack."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from secure_ai.core.budget import Norm, largest_budget
from secure_ai.core.results import rate
from secure_ai.core.statistics import BEYOND_CHANCE, beyond_chance, median_interval
from secure_ai.core.trust import Check, check
from secure_ai.data.dataset import Dataset
from secure_ai.models.preflight.preflight import Preflight
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.contract import Progress
from secure_ai.red.evasion.suite.access import plans_for
from secure_ai.red.evasion.suite.verify import measured_distance
from secure_ai.red.evasion.trust.judged import judge_single
from secure_ai.runs.model_spec import SUBJECT
from secure_ai.runs.stages.robustness import finished

ATTACKS: dict[Norm, str] = {"linf": "fmn", "l2": "ddn", "l1": "fmn", "l0": "fmn"}


def minimum_distances(
    checked: Preflight, dataset: Dataset, norm: Norm, steps: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """The entry of `distances` in report.json.

    A sample that is misclassified as it is has distance 0, one that the attack could not break has distance infinity:
    the median is over all samples, never over the successes. It is an upper bound of the true one, by one attack: so
    its trust is never `reliable`, and says what else is wrong.

    Args:
        checked: what preflight found, and the target.
        norm: decides the attack: DDN for l2, FMN for the others.
        steps: of the attack.
    """
    attack, target = f"{ATTACKS[norm]}:steps={steps}", checked.target
    budget = largest_budget(norm, target.dimensions)
    (plan,) = plans_for(attack, norm, target.access)
    judged = finished(
        judge_single(target, dataset, budget, plan, seed, checked=checked, keep_examples=True, progress=progress)
    )
    result = judged.result
    distances = np.where(result.clean_correct, np.inf, 0.0)
    broken = np.flatnonzero(result.broken_by >= 0)
    if result.x_adv is not None and len(broken):
        examples = torch.from_numpy(np.array(result.x_adv[broken]))
        clean = images_to_float(dataset.images[broken])
        distances[broken] = measured_distance(examples, clean, budget).numpy()
    median, low, high = median_interval(distances.tolist())
    trust = judged.also(_found_check(distances, norm)).trust
    return {
        "id": f"{SUBJECT}/median-distance",
        "model": SUBJECT,
        "metric": "median_min_distance",
        "norm": norm,
        "attack": attack,
        "n": len(dataset),
        "median": _finite(median),
        "ci_low": _finite(max(low, 0.0)),
        "ci_high": _finite(high),
        "found": rate(int(np.isfinite(distances).sum()), len(dataset)).as_json(),
        "clean_errors": int((~result.clean_correct).sum()),
        "infinite": _infinite(median, high),
        "note": dataset.note,
        "trust": trust.as_json(),
        "stage": "assess/distance",
    }


def _found_check(distances: np.ndarray, norm: Norm) -> Check:
    """Fails where the attack broke not every sample: without a bound on the distance every image can be any other."""
    missed, n = int(np.isinf(distances).sum()), len(distances)
    evidence = f"at any distance in {norm} {missed} of {n} samples were not broken; {BEYOND_CHANCE}"
    return check("unbounded-distance", not beyond_chance(missed, n), evidence)


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else round(float(value), 9)


def _infinite(median: float, high: float) -> str:
    if math.isinf(median):
        return "the median is infinite: the attack broke fewer than half of the samples"
    return "the upper end of the interval is infinite: too few samples were broken" if math.isinf(high) else ""
