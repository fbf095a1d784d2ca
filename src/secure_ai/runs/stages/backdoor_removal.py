"""Removal of a backdoor in a run: every remover on clean images, what it did, before and after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from secure_ai.blue.backdoors.judgement import P_SUSPICIOUS
from secure_ai.core.result import Result
from secure_ai.core.results import Measurement, Rate
from secure_ai.core.sections import Column, Section
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import hold_out_last, random_order
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.models.target.evaluate import evaluate
from secure_ai.red.poisoning.plant import backdoor_success_rate
from secure_ai.runs.backdoors.repair import (
    LEAST_IMAGES,
    State,
    Suspect,
    choose,
    doubts,
    repairs,
    state_of,
    success_after_relearning,
    suspect,
    target_of,
)
from secure_ai.runs.engine.measure import Context, Measure, Passes, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.backdoor_detection import SCAN_PASSES, ScanSettings, control_passes, controls_of
from secure_ai.runs.stages.entries import rate_entry

PASSES = 600_000  # forward and backward, of the removers and of learning again
SCANS = 7  # before, and after each remover


class RemovalSettings(Settings):
    """What was planted, so that its success can be measured; the removers and the choice do not see it.

    Attributes:
        scan: which control networks decide whether a repaired network looks clean.
        images: clean images; at most 3,000 of them repair, the others measure.
    """

    trigger: str
    target_label: int
    scan: ScanSettings
    images: int = 6_000


def removal(subject: Subject, settings: RemovalSettings, context: Context) -> Result:
    """Every remover, the choice among them, and then the planted trigger's success."""
    whole, called = _clean_images(context.data("train"), subject, settings.images, context.seed)
    target = subject.checked(whole).target
    using = controls_of(target, settings.scan, context)
    own = suspect(target, whole, using.fleet, context.seed)
    before = state_of(target.network, own)
    networks, tried = repairs(own)
    chosen = choose(before, tried)
    planted = {name: _planted(one, own, settings) for name, one in {"before": target.network, **networks}.items()}
    entries = [
        *_entries(subject.id, "unrepaired", before, planted["before"], settings.trigger, called),
        *_entries(subject.id, "repaired", tried[chosen], planted[chosen], settings.trigger, called),
    ]
    again = {"unrepaired": target.network, "repaired": networks[chosen], "clean": subject.twin().target().network}
    for name, network in again.items():
        protocol = "the reconstructed trigger's success after a few epochs on 50 triggered images"
        value = success_after_relearning(network, own)
        entries.append(rate_entry(subject.id, f"{name}-relearned", "success_after_relearning", value, protocol))
    section = _section(subject.id, {"before": before, **tried}, chosen, planted, own.label, called)
    untested = _untested(before, tried[chosen], using.why)
    return Result(
        measurements=tuple(entries), sections=(section,),
        not_tested=(f"{subject.id}: removal: {untested}",) if untested else (),
    )  # fmt: skip


def _untested(before: State, after: State, why: str) -> str:
    """What no scan says of the repair; empty where both scans could be compared with control networks.

    Args:
        why: there are no control networks; empty: there are some.
    """
    if before.class_p is None:
        return f"the suspected class is a guess: {why or before.unscanned}"
    return after.unscanned if after.class_p is None else ""


def _section(
    model: str, states: Mapping[str, State], chosen: str, planted: Mapping[str, Rate], label: int, called: str
) -> Section:
    """Every network before and after, and whether the chosen one passed the second scan."""
    rows = tuple(
        (name + (" (chosen)" if name == chosen else ""), one.accuracy, one.success, one.recovered,
         None if one.class_p is None else f"{one.class_p:.2g}", planted[name])
        for name, one in states.items()
    )  # fmt: skip
    columns = (
        Column("network", "network"), Column("clean", "clean accuracy"), Column("success", "reconstructed trigger"),
        Column("recovered", "triggered, true class"), Column("p", f"p of class {label}"),
        Column("planted", "planted trigger"),
    )  # fmt: skip
    scanned = any(one.class_p is not None for name, one in states.items() if name != "before")
    by = f"clean accuracy, p of class {label} in a second scan" if scanned else "clean accuracy"
    intro = (
        f"Measured on {called}. Chosen by {by} and the reconstructed trigger. The planted trigger was measured "
        "afterwards."
    )
    outcome = _outcome(states["before"], states[chosen], label)
    return Section(f"{model}/backdoor-removal", f"Removal of the backdoor of {model}", intro, columns, rows, outcome)


def _outcome(before: State, after: State, label: int) -> str:
    left = doubts(before, after)
    if left:
        return f"A backdoor may be there still: {'; '.join(left)}."
    if (before.class_p or 0.0) > P_SUSPICIOUS:
        return f"Class {label} did not stand out before either: the suspicion was weak."
    return f"Class {label} of the chosen network no longer stands out."


def _clean_images(train: Dataset, subject: Subject, most: int, seed: int) -> tuple[Dataset, str]:
    """Images to repair with and to measure on, and what the latter are: validation images where there are enough."""
    held_out = int(subject.facts.get("n_validation", 0))
    unseen = held_out >= LEAST_IMAGES
    own = hold_out_last(train, held_out)[1] if unseen else train
    chosen = random_order(len(own), seed, "removal-images")[:most]
    called = "validation images" if unseen else "images that the network was trained on"
    note = f"{len(chosen)} random {called}"
    return own.select(chosen, note), f"{called}, not used in repair; the remover was chosen on them, too"


def _planted(network: nn.Module, own: Suspect, settings: RemovalSettings) -> Rate:
    labels = np.asarray(own.held_out.labels)
    shown = evaluate(target_of(network, own), stamp(own.held_out.images, parse_trigger(settings.trigger)), labels)
    return backdoor_success_rate(shown.predictions, labels, settings.target_label, classes=shown.num_classes)


def _entries(model: str, name: str, state: State, planted: Rate, trigger: str, called: str) -> tuple[Measurement, ...]:
    return (
        rate_entry(model, f"{name}-accuracy", "clean_accuracy", state.accuracy, called),
        rate_entry(model, f"{name}-reconstructed", "reconstructed_trigger_success", state.success,
                   "held-out images with the reconstructed trigger, predicted as its class"),
        rate_entry(model, f"{name}-planted", "backdoor_success_rate", planted,
                   "held-out images of other classes with the planted trigger, predicted as its target",
                   trigger=trigger),
    )  # fmt: skip


def removal_row(settings: RemovalSettings) -> Measure[RemovalSettings]:
    """The row for the removal."""
    return Measure(
        id="backdoor-removal",
        function=removal,
        settings=settings,
        needs=frozenset({"train", "twin"}),
        passes=_passes,
    )


def _passes(settings: RemovalSettings, n: int, holds: float) -> Passes:
    controls, own = control_passes(settings.scan, n), PASSES + SCANS * SCAN_PASSES
    return Passes(controls.forward + own, controls.backward + own, controls.training)
