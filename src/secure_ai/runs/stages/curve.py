"""The measure `curve`: robust accuracy over a grid of eps, each point with its own trust verdict."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from secure_ai.core.budget import PerturbationBudget, largest_budget, written_like
from secure_ai.core.result import Result
from secure_ai.core.results import CURVE, Measurement, Rate
from secure_ai.core.sections import Picture
from secure_ai.core.trust import Check
from secure_ai.data.splits import sample
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.judged import after_attacks, probe_network
from secure_ai.runs.engine.measure import Context, Passes
from secure_ai.runs.engine.result_file import ARRAYS_NAME, npz_bytes
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.entries import per_sample
from secure_ai.runs.stages.robust import (
    AttackSettings,
    judged,
    replay_of,
    robust_entry,
    suite_passes,
)

PICTURE = "security_curve"


class CurveSettings(AttackSettings):
    """An attack whose eps is multiplied by each of `factors`."""

    factors: tuple[float, ...]


def security_curve(
    subject: Subject, settings: CurveSettings, context: Context, surrogate: NetworkTarget | None
) -> Result:
    """Robust accuracy over the grid.

    An example within eps is within any larger eps: a sample misclassified at one eps counts as misclassified at all
    larger ones, so the curve cannot rise. How often the suite itself failed to find what it had found before is its
    own check. The probes are made once, at the recipe's eps, and count for every point; those that ask about the images
    that are left, and whether the network's outputs are still the same, are made at each.
    """
    data = sample(context.data("test"), settings.n, context.seed)
    checked = subject.checked(data)
    target, plans = checked.target, parse_attacks(settings.attack, settings.norm, checked.target.access)
    grid = curve_grid(settings.budget, settings.factors, target.dimensions)
    points: list[tuple[float, Rate]] = []
    texts = [written_like(eps, settings.eps_text) if eps else "0" for eps in grid]

    def progress(done: int, total: int) -> None:
        context.progress(len(points) * total + done, len(grid) * total)

    @functools.cache
    def probes() -> tuple[Check, ...]:
        return probe_network(checked, data, settings.budget, plans, context.seed, after_attacks(progress))

    robust = np.ones(len(data), dtype=bool)
    entries: list[Measurement] = []
    replays, correct = [], []
    for eps in grid:
        if eps == 0:
            clean = evaluate(target, data.images, data.labels)
            robust = clean.predictions == clean.labels
            points.append((eps, clean.accuracy))
            continue
        here = settings.model_copy(update={"eps": eps, "eps_text": written_like(eps, settings.eps_text)})
        here_text = here.budget.eps_text
        told = replace(context, progress=progress, phase=functools.partial(_phase_at, context, here_text))
        found = judged(subject, data, here, told, probes=probes, surrogate=surrogate, standing=robust)
        if found.result.interruption is not None:  # the points before it are whole
            if entries:
                context.stopped(Result(measurements=tuple(entries)))
            raise found.result.interruption
        robust = found.robust
        protocol = f"worst case over {settings.attack} at eps {here_text} and at every smaller eps of the grid"
        entry = robust_entry(subject, f"curve/{eps:g}", found, protocol, data, CURVE)
        entries.append(entry)
        replays.append(replay_of(entry, found.result, data))
        correct.append(per_sample(entry, robust))
        points.append((eps, found.robust_accuracy))
    return Result(
        measurements=tuple(entries),
        replays=tuple(replays),
        per_sample=tuple(correct),
        pictures=(_picture(points, texts, context),),
    )


def _picture(points: Sequence[tuple[float, Rate]], texts: Sequence[str], context: Context) -> Picture:
    """The curve, its points kept as arrays, and how each eps is written."""
    columns = {
        "eps": [eps for eps, _ in points],
        "successes": [value.successes for _, value in points],
        "n": [value.n for _, value in points],
    }
    arrays = {f"{PICTURE}-{name}": np.array(values, dtype=np.float64) for name, values in columns.items()}
    context.keep(ARRAYS_NAME, npz_bytes(arrays))
    return Picture(PICTURE, "Accuracy of the network as the budget grows", "curve", tuple(arrays), tuple(texts))


def curve_grid(budget: PerturbationBudget, factors: Sequence[float], dimensions: int) -> list[float]:
    """The eps of the curve's points, rising: `factors` of the budget's, none beyond its norm's range; l0 whole."""
    largest = largest_budget(budget.norm, dimensions).eps
    points = {min(factor * budget.eps, largest) for factor in factors}
    return sorted({float(int(eps)) for eps in points} if budget.norm == "l0" else points)


def curve_passes(settings: CurveSettings, n: int, holds: float) -> Passes:
    """A suite a point."""
    one, points = suite_passes(settings, n, holds), sum(factor > 0 for factor in settings.factors)
    return Passes(points * one.forward, points * one.backward)


def _phase_at(context: Context, eps_text: str, what: str) -> None:
    context.phase(f"{what}, eps {eps_text}")
