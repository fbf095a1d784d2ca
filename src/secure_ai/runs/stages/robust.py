"""The measures of robust accuracy on one network: a single attack, or a whole suite, judged by the one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.result import Replay, Result, merged
from secure_ai.core.results import Measurement
from secure_ai.core.trust import Check
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import sample
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import SHARD_SIZE
from secure_ai.red.evasion.suite.parse import parse_attacks, parse_suite
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.judged import Judged, judge_network, judge_single
from secure_ai.runs.engine.measure import Context, Measure, Passes, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.entries import per_sample, rate_entry

PROBE_PASSES = 12_000  # of the verdict's probes, about, where images withstand: they use a fixed number of images
WITHSTOOD_SHARE, BROKEN_SHARE = 0.1, 0.003  # of a never-broken sample's passes: later attacks see few of the images
FORECAST_CLASSES = 10  # FAB's cost grows with the classes; a network is not loaded to make a forecast


class AttackSettings(Settings):
    """What a network is attacked with.

    Attributes:
        attack: a list as of `--attack`.
        eps_text: eps as the user wrote it.
        n: a stratified random sample of so many test images; None: all of them.
    """

    attack: str
    norm: Norm
    eps: float
    eps_text: str = ""
    n: int | None = None

    @property
    def budget(self) -> PerturbationBudget:
        """Norm and eps as one value."""
        return PerturbationBudget(self.norm, self.eps, self.eps_text)


class WhiteBoxSettings(Settings):
    """Single attacks, each by itself, on all test images or on a sample of `n`."""

    attacks: tuple[str, ...]
    norm: Norm
    eps: float
    n: int | None = None


def judged(
    subject: Subject,
    data: Dataset,
    settings: AttackSettings,
    context: Context,
    *,
    probes: Callable[[], tuple[Check, ...]] | None = None,
    surrogate: NetworkTarget | None = None,
    standing: np.ndarray | None = None,
    keep_examples: bool = False,
) -> Judged:
    """`judge_network` on `subject`; its other arguments are as there. An interruption is in its result."""
    checked = subject.checked(data)
    return judge_network(
        checked.target,
        data,
        settings.budget,
        parse_attacks(settings.attack, settings.norm, checked.target.access),
        context.seed,
        checked=checked,
        probes=probes,
        borrowed=() if surrogate is None else (surrogate,),
        standing=standing,
        keep_examples=keep_examples,
        progress=context.progress,
        phase=context.phase,
    )


def judged_single(
    subject: Subject, data: Dataset, settings: AttackSettings, context: Context, *, keep_examples: bool = False
) -> Judged:
    """`judge_single` on `subject`: one attack alone, which is never reliable."""
    checked = subject.checked(data)
    (plan,) = parse_attacks(settings.attack, settings.norm, checked.target.access)
    found = judge_single(
        checked.target,
        data,
        settings.budget,
        plan,
        context.seed,
        checked=checked,
        keep_examples=keep_examples,
        progress=context.progress,
    )
    return whole(found)


def whole(found: Judged) -> Judged:
    """`found`; a stage keeps nothing partial, so that an interruption is raised again."""
    if found.result.interruption is not None:
        raise found.result.interruption
    return found


def kept_whole(found: Judged, result: Result, context: Context) -> Result:
    """`result` where nothing interrupted the suite behind it; else what it had is handed on, and the stop raised again.

    A stage stores nothing partial: what it had goes into the report of the stopped run only.
    """
    interruption = found.result.interruption
    if interruption is None:
        return result
    if found.result.n:
        context.stopped(replace(result, replays=(), pictures=(), per_sample=()))
    raise interruption


def robust_entry(
    subject: Subject, name: str, found: Judged, protocol: str, data: Dataset, condition: str = ""
) -> Measurement:
    """The robust accuracy `MODEL/NAME` with its verdict."""
    return rate_entry(
        subject.id,
        name,
        "robust_accuracy",
        found.robust_accuracy,
        protocol,
        condition=condition,
        data=data,
        budget=found.result.budget,
        trust=found.trust,
    )


def replay_of(measurement: Measurement, result: SuiteResult, data: Dataset) -> Replay:
    """What makes the suite's examples again, bit for bit, and the digests that a replay compares with."""
    broken = np.flatnonzero(result.broken_by >= 0)
    return Replay(
        id=measurement.id,
        attacks=tuple(replace(plan, bound={}).text for plan in result.plans),
        norm=result.budget.norm,
        eps=result.budget.eps,
        seed=result.seed,
        independent=result.independent,
        model_digest=result.model_digest,
        role="test",
        data_digest=data.digest,
        n=len(data),
        threads=torch.get_num_threads(),
        shard_size=SHARD_SIZE,
        shards=tuple(result.shard_digests),
        robust=int(result.robust.sum()),
        example=int(data.indices[broken[0]]) if len(broken) else None,
        surrogate=next((plan.bound["surrogate"] for plan in result.plans if "surrogate" in plan.bound), ""),
    )


def white_box(subject: Subject, settings: WhiteBoxSettings, context: Context) -> Result:
    """Single attacks on the network itself, true labels, without probes: alone none is ever reliable."""
    data = sample(context.data("test"), settings.n, context.seed)
    found = []
    for attack in settings.attacks:
        own = AttackSettings(attack=attack, norm=settings.norm, eps=settings.eps)
        protocol = f"white-box {attack} on this network, true labels"
        found.append(
            _result(subject, attack.partition(":")[0], judged_single(subject, data, own, context), protocol, data)
        )
    return merged(found)


def suite(subject: Subject, settings: AttackSettings, context: Context) -> Result:
    """A whole suite with every check of the verdict, on a sample: the figure that may be claimed."""
    data = sample(context.data("test"), settings.n, context.seed)
    found = judged(subject, data, settings, context)
    protocol = f"worst case over the suite {settings.attack}; {data.note or 'all images'}"
    return kept_whole(found, _result(subject, "suite", found, protocol, data), context)


def _result(subject: Subject, condition: str, found: Judged, protocol: str, data: Dataset) -> Result:
    entry = robust_entry(subject, condition, found, protocol, data)
    return Result(
        measurements=(entry,),
        per_sample=(per_sample(entry, found.robust),),
        replays=(replay_of(entry, found.result, data),),
    )


def suite_passes(settings: AttackSettings, n: int, holds: float) -> Passes:
    """Most of what a suite costs is spent on images that withstand it."""
    images = min(settings.n or n, n)
    worst = parse_suite(settings.attack, settings.norm, "gradients", images, FORECAST_CLASSES).passes
    spent = worst * (holds * WITHSTOOD_SHARE + BROKEN_SHARE) / 2
    return Passes(spent, spent)


def white_box_row(settings: WhiteBoxSettings) -> Measure[WhiteBoxSettings]:
    """The row for single attacks; each measurement's condition is its attack's name."""
    return Measure(
        id="white-box",
        function=white_box,
        settings=settings,
        needs=frozenset({"test", "gradients"}),
        passes=lambda own, n, holds: suite_passes(
            AttackSettings(attack=",".join(own.attacks), norm=own.norm, eps=own.eps, n=own.n), n, holds
        ),
    )


def suite_passes_with_probes(settings: AttackSettings, n: int, holds: float) -> Passes:
    """A suite and the verdict's probes."""
    attacks, probes = suite_passes(settings, n, holds), PROBE_PASSES / 2 * (BROKEN_SHARE + holds)
    return Passes(attacks.forward + probes, attacks.backward + probes)


def suite_row(settings: AttackSettings) -> Measure[AttackSettings]:
    """The row for a whole suite."""
    return Measure(
        id="suite", function=suite, settings=settings, needs=frozenset({"test"}), passes=suite_passes_with_probes
    )
