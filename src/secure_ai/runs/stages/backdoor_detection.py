"""Backdoor detection in a run: the model scan against committed control networks, and filters of poisoned data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from secure_ai.blue.backdoors.data_filters import FILTERS, Evidence
from secure_ai.blue.backdoors.judgement import ScanVerdict
from secure_ai.core.compute import configure
from secure_ai.core.labels import class_text
from secure_ai.core.result import Result
from secure_ai.core.results import MeasuredChoice, Measurement, rate
from secure_ai.core.sections import Column, Picture, Section, picture_file
from secure_ai.core.thresholds import REFUSED_CLEAN
from secure_ai.core.trust import Check
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import random_order
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.models.networks.built_in import NETWORKS
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.tensors import images_to_float
from secure_ai.runs.backdoors.build import SHARED_CODE
from secure_ai.runs.backdoors.controls import DEFAULT_FLEET, LEAST_DATA, Controls, with_controls
from secure_ai.runs.backdoors.findings import scan_findings
from secure_ai.runs.backdoors.fleet import LARGEST, known_fleet
from secure_ai.runs.backdoors.scan import Scan, Trigger, scan_target, split_images
from secure_ai.runs.engine.measure import Context, Measure, Passes, Settings
from secure_ai.runs.engine.result_file import ARRAYS_NAME, npz_bytes
from secure_ai.runs.engine.stage import TimeShortError
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.entries import quantity_entry, rate_entry
from secure_ai.runs.stages.gallery import gallery, gallery_row

LIMITED = f"above a limit that at most {REFUSED_CLEAN:.0%} of the clean ones exceed"
TIED = f"of the highest score, which more than {REFUSED_CLEAN:.0%} of the clean ones have: no limit lies above them"
FILTERS_SHOWN = ("activation-clustering", "spectral-signatures", "spectre")
SCAN_PASSES, FREE_PASSES = 75_000, 2_500  # forward and backward, of a network of ten classes
CONTROL_EPOCHS = 3  # of a control network on all images, on average


class ScanSettings(Settings):
    """A scan.

    Attributes:
        planted: the network is one that this tool trained to show something: findings about it do not count.
        calibrate: none may be committed: then train control networks; else the data-free statistic is listed alone.
        control_networks: train so many, whether some are committed or not.
        trained: the run trained the network, and control networks learn from its training images; else from half of
            the test images.
        later: another scan of the run trains them before, so that this one's forecast holds none.
    """

    planted: bool
    calibrate: bool = False
    control_networks: int | None = None
    trained: bool = False
    later: bool = False

    @property
    def trains(self) -> bool:
        """Whether control networks are trained where none are committed, or in any case."""
        return self.calibrate or self.control_networks is not None


class FilterSettings(Settings):
    """What was planted, so that the poisoned training images can be made again; the filters do not see it."""

    trigger: str
    target_label: int
    relabelled: bool


def scan(subject: Subject, settings: ScanSettings, context: Context) -> Result:
    """The verdict on one network, its p-value, and the reconstructed trigger."""
    test = context.data("test")
    checked = subject.checked(test)
    target = checked.target
    if target.access != "gradients":
        return Result(not_tested=(f"{target.name}: backdoor scan: it offers no gradients",))
    using = controls_of(target, settings, context)
    if using.fleet is None:
        return _margins_alone(subject, target, checked.checks, test.class_names, context.seed, using.why)
    held_out = using.held_out
    notes = [using.fleet.source, using.fleet.power_text, *([using.fleet.note] if using.fleet.note else [])]
    if not arch_of(target.network):
        notes.append(SHARED_CODE)
    found = scan_target(target, using.search, held_out, using.fleet, context.seed, checked.checks)
    verdict = MeasuredChoice(
        id=f"{subject.id}/backdoor-verdict", model=subject.id, metric="backdoor_verdict", value=found.verdict.value,
        allowed=tuple(word.value for word in ScanVerdict), stage="",
    )  # fmt: skip
    measurements, quantities = [], []
    if found.calibrated is not None and found.false_alarms is not None:
        measurements.append(
            rate_entry(subject.id, "scan-false-alarms", "false_alarm_rate", found.false_alarms,
                       "clean control networks that look at least as extreme", data=test)
        )  # fmt: skip
        quantities.append(
            quantity_entry(subject.id, "scan/p", "p_value", found.calibrated.p, "probability", n=found.calibrated.fleet)
        )
    if found.trigger is not None:
        measurements.append(_success(subject, found.trigger, test.class_names))
    pictures = _pictures(subject, target, held_out, found, context)
    return Result(
        choices=(verdict,), measurements=tuple(measurements), quantities=tuple(quantities), pictures=pictures,
        sections=(_section(subject, target.name, found, test.class_names, notes),),
        findings=scan_findings(
            subject.id, found, test, measured=True, shown=target.name, planted=settings.planted,
            picture=picture_file(pictures[0].id) if pictures else "",
        ),
        not_tested=() if found.calibrated else (f"{target.name}: backdoor scan: {found.reasons[0]}",),
    )  # fmt: skip


def controls_of(target: NetworkTarget, settings: ScanSettings, context: Context) -> Controls:
    """The committed control networks or, where that is asked for, ones that are trained or lie in the user's cache.

    Raises:
        TimeShortError: the time budget does not hold all of them; the cache keeps those that are done.
    """
    test, arch, count = context.data("test"), arch_of(target.network), settings.control_networks
    fleet = None if count else known_fleet(arch, target.transform, test)
    shuffled = test.select(random_order(len(test), context.seed, "scan-split"), test.note)
    if fleet is not None:
        return Controls(fleet, *split_images(shuffled))
    if not settings.trains:
        why = "no committed control networks for it and its data; `secure-ai backdoor scan` trains some"
        return Controls(None, shuffled, shuffled, why)
    if len(test) < LEAST_DATA:
        return Controls(None, shuffled, shuffled, f"a scan needs {LEAST_DATA} images")
    training, compute = (
        context.data("train") if settings.trained else None,
        configure(context.precision, context.device),
    )
    using = with_controls(
        target, arch, shuffled, training, count=count or DEFAULT_FLEET, seed=context.seed,
        dtype=compute.training_dtype, device=compute.device,
        largest=LARGEST if training is None else len(training),
        deadline=context.deadline, progress=context.progress,
    )  # fmt: skip
    if using.fleet is not None and len(using.fleet.members) < using.fleet.asked:
        done = f"{len(using.fleet.members)} of {using.fleet.asked} are done"
        raise TimeShortError(f"the time budget would not hold its control networks: {done}")
    return using


def _margins_alone(
    subject: Subject, target: NetworkTarget, checks: Sequence[Check], names: Sequence[str], seed: int, why: str
) -> Result:
    """The data-free statistic of each class, and that nothing is there to compare it with."""
    margins = scan_target(target, None, None, None, seed, checks).values["margin"]
    section = Section(
        f"{subject.id}/backdoor-margins", f"Backdoor scan of {target.name}: not tested",
        "The largest margin of each class, found without data. Alone it says nothing: there are no clean networks of "
        "this architecture to compare with.",
        (Column("class", "class"), Column("margin", "largest margin")),
        tuple((class_text(k, names), f"{margin:.4g}") for k, margin in enumerate(margins)),
    )  # fmt: skip
    return Result(sections=(section,), not_tested=(f"{target.name}: backdoor scan: {why}",))


def _pictures(
    subject: Subject, target: NetworkTarget, held_out: Dataset, found: Scan, context: Context
) -> tuple[Picture, ...]:
    """The reconstructed trigger on a few images."""
    trigger = found.trigger
    if trigger is None:
        return ()
    title = f"reconstructed for class {class_text(trigger.label, held_out.class_names)}"
    row = gallery_row(title, target, held_out, trigger.positions, trigger.stamped)
    identifier = f"backdoor_trigger_{subject.id.replace('/', '_').replace('-', '_')}"
    pictures, arrays = gallery(identifier, f"{target.name}: {found.verdict.value.replace('_', ' ')}", [row])
    context.keep(ARRAYS_NAME, npz_bytes(arrays))
    return pictures


def arch_of(network: nn.Module) -> str:
    """The built-in name of a network, however its file was read; empty for any other."""
    return next((name for name, entry in NETWORKS.items() if type(network) is entry.network), "")


def _success(subject: Subject, trigger: Trigger, names: Sequence[str]) -> Measurement:
    label = class_text(trigger.label, names)
    protocol = f"held-out {trigger.made_for(names)} with the reconstructed trigger, predicted as {label}"
    return rate_entry(subject.id, "scan-trigger", "reconstructed_trigger_success", trigger.success, protocol)


def _section(subject: Subject, shown: str, found: Scan, names: Sequence[str], notes: Sequence[str]) -> Section:
    scores = found.class_scores
    columns = (Column("class", "class"), *(Column(name, name) for name in scores))
    classes = range(len(next(iter(scores.values()), ())))
    rows = tuple((class_text(k, names), *(f"{row[k]:.1f}" for row in scores.values())) for k in classes)
    scale = "Scores in deviations of clean networks' same class, or pair; large is worse." if rows else ""
    return Section(
        f"{subject.id}/backdoor-scan", f"Backdoor scan of {shown}: {found.verdict.value.replace('_', ' ')}",
        f"{'; '.join(found.reasons)}. {scale}".strip(), columns, rows, "; ".join(notes),
    )  # fmt: skip


def data_filters(subject: Subject, settings: FilterSettings, context: Context) -> Result:
    """How many of the poisoned and of the clean images each filter refuses.

    It refuses those above the smallest limit that at most 1 % of the clean images exceed. Where scores are tied, e.g.
    one a cluster, that limit may be the highest score: then it refuses the images that have it, the cluster it accuses.
    """
    train, poisoned = context.data("train"), np.array(subject.facts["poisoned"], dtype=np.int64)
    trigger = parse_trigger(settings.trigger)
    images, labels = np.array(train.images), np.array(train.labels)
    images[poisoned] = stamp(images[poisoned], trigger)
    if settings.relabelled:
        labels[poisoned] = settings.target_label
    with torch.no_grad():
        parts = [subject.target().features(images_to_float(images[i : i + 500])) for i in range(0, len(images), 500)]
    evidence = Evidence(np.empty((0, 1, 1, 1)), labels, torch.cat(parts).cpu().double().numpy())
    planted = np.zeros(len(labels), dtype=bool)
    planted[poisoned] = True
    entries = []
    for name in FILTERS_SHOWN:
        scores = FILTERS[name].score(evidence)
        refused, which = scores > np.quantile(scores[~planted], 1 - REFUSED_CLEAN, method="inverted_cdf"), LIMITED
        if not refused.any():
            refused, which = scores == scores.max(), TIED
        found, alarms = (rate(int(refused[own].sum()), int(own.sum())) for own in (planted, ~planted))
        entries += [
            rate_entry(subject.id, f"filter-{name}", "poison_detection_rate", found,
                       f"poisoned training images {which}", trigger=trigger.text),
            rate_entry(subject.id, f"filter-{name}-false-alarms", "false_alarm_rate", alarms,
                       f"clean training images {which}"),
        ]  # fmt: skip
    return Result(measurements=tuple(entries))


def committed(arch: str, data: str) -> bool:
    """Whether the package has control networks for images of that name and an unprepared input, as a plan knows it."""
    return data.startswith("mnist:") and known_fleet(arch, InputTransform()) is not None


def scan_row(arch: str, settings: ScanSettings, *, data: str, answers: tuple[str, ...] = ()) -> Measure[ScanSettings]:
    """The row for the model scan.

    Args:
        arch: a built-in name or a factory, which decides what the scan costs; empty: not known, e.g. in the file.
        data: the test images, as the recipe names them.
    """
    known = settings.control_networks is None and (committed(arch, data) or not (arch or settings.calibrate))
    return Measure(
        id="backdoor-scan",
        function=scan,
        settings=settings,
        needs=frozenset({"train", "test"} if settings.trains and settings.trained else {"test"}),
        passes=lambda own, n, holds: _passes(own, n, known),
        answers=answers,
    )


def _passes(settings: ScanSettings, n: int, known: bool) -> Passes:
    if not (known or settings.trains):
        return Passes(FREE_PASSES, FREE_PASSES)
    before = Passes() if known else control_passes(settings, n)
    return Passes(before.forward + SCAN_PASSES + 2 * n, before.backward + SCAN_PASSES, before.training)


def control_passes(settings: ScanSettings, n: int) -> Passes:
    """Of the control networks that are trained and scanned first; none where another scan of the run does that."""
    if settings.later or not settings.trains:
        return Passes()
    count = settings.control_networks or DEFAULT_FLEET
    images = n if settings.trained else n // 2
    return Passes(count * SCAN_PASSES, count * SCAN_PASSES, count * CONTROL_EPOCHS * images)


def filters_row(settings: FilterSettings, answers: tuple[str, ...] = ()) -> Measure[FilterSettings]:
    """The row for the filters of training data."""
    return Measure(
        id="data-filters",
        function=data_filters,
        settings=settings,
        needs=frozenset({"train"}),
        passes=lambda own, n, holds: Passes(n),
        answers=answers,
    )
