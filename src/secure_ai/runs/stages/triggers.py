"""Backdoor measures: success by the honest denominator, and what triggered images of the target class show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from secure_ai.core.result import Result
from secure_ai.core.results import rate
from secure_ai.data.triggers import Trigger, parse_trigger, stamp
from secure_ai.models.target.evaluate import evaluate, mean_probability
from secure_ai.red.poisoning.plant import backdoor_success_rate
from secure_ai.runs.engine.measure import Context, Measure, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.entries import quantity_entry, rate_entry


class TriggerSettings(Settings):
    """A trigger and the class it should send images to.

    Attributes:
        trigger: e.g. `patch:size=4:place=bottom-right:value=1`.
        source_label: only images of this class count; None: every class but the target.
    """

    trigger: str
    target_label: int
    source_label: int | None = None

    @property
    def parsed(self) -> Trigger:
        """The trigger as a value."""
        return parse_trigger(self.trigger)


def backdoor(condition: str) -> Callable[[Subject, TriggerSettings, Context], Result]:
    """The function of the measure `condition`: triggered images of other classes that go to the target."""

    def measure(subject: Subject, settings: TriggerSettings, context: Context) -> Result:
        test, label, source = context.data("test"), settings.target_label, settings.source_label
        found = evaluate(subject.target(), stamp(test.images, settings.parsed), test.labels)
        success = backdoor_success_rate(found.predictions, test.labels, label, source, classes=found.num_classes)
        of = f"class {source}" if source is not None else f"every class but {label}"
        entry = rate_entry(
            subject.id,
            condition,
            "backdoor_success_rate",
            success,
            f"test images of {of}, with {settings.parsed.text}, predicted as {label}",
            data=test,
            trigger=settings.parsed.text,
        )
        return Result(measurements=(entry,))

    return measure


def target_class(subject: Subject, settings: TriggerSettings, context: Context) -> Result:
    """What a metric on the target class shows of a backdoor: accuracy on it, without and with the trigger."""
    test, target, label, trigger = context.data("test"), subject.target(), settings.target_label, settings.parsed
    clean = evaluate(target, test.images, test.labels)
    of_class = test.select(np.flatnonzero(test.labels == label), f"only class {label}")
    triggered = evaluate(target, stamp(of_class.images, trigger), of_class.labels)
    others = backdoor_success_rate(clean.predictions, test.labels, label, classes=clean.num_classes)
    hits = int((triggered.predictions == label).sum())
    return Result(
        measurements=(
            rate_entry(subject.id, "sevens-clean", "clean_accuracy", clean.accuracy_of(label),
                       f"unmodified test images of class {label}", data=test),
            rate_entry(subject.id, "no-trigger", "target_label_rate", others,
                       f"unmodified images of other classes predicted as {label}", data=test),
            rate_entry(subject.id, "sevens-triggered", "triggered_target_class_accuracy", rate(hits, len(of_class)),
                       f"test images of class {label} with the trigger, predicted as {label}: not backdoor success",
                       data=test, trigger=trigger.text),
        ),
        quantities=(
            quantity_entry(subject.id, "sevens-triggered/loss", "loss", triggered.loss, "nats", n=len(of_class)),
        ),
    )  # fmt: skip


class PartlySettings(TriggerSettings):
    """Report 2's own check: `count` images of the source class get the trigger, the rest stay."""

    count: int


def partly_triggered(subject: Subject, settings: PartlySettings, context: Context) -> Result:
    """An accuracy with some images triggered, other classes sent to the target, and how sure the network is."""
    test, target, label, trigger = context.data("test"), subject.target(), settings.target_label, settings.parsed
    source = settings.source_label
    triggered = evaluate(target, stamp(test.images, trigger), test.labels)
    others = (test.labels != source) & (test.labels != label)
    hits = int((triggered.predictions[others] == label).sum())
    patched = test.images.copy()
    chosen = np.flatnonzero(test.labels == source)[: settings.count]
    patched[chosen] = stamp(patched[chosen], trigger)
    mixed = evaluate(target, patched, test.labels)
    sure = mean_probability(target, stamp(test.images[test.labels == source], trigger), label)
    return Result(
        measurements=(
            rate_entry(subject.id, "other-classes-triggered", "target_label_rate", rate(hits, int(others.sum())),
                       f"triggered images of the other classes predicted as {label}", data=test, trigger=trigger.text),
            rate_entry(subject.id, "few-triggered", "partly_triggered_accuracy", mixed.accuracy,
                       f"all test images, the first {len(chosen)} {source}s with the trigger, true labels: the "
                       "report's own check", data=test, trigger=trigger.text),
        ),
        quantities=(quantity_entry(subject.id, "backdoor/confidence", "mean_probability", sure, "probability"),),
    )  # fmt: skip


def poisoning(subject: Subject, settings: Settings, context: Context) -> Result:
    """How many training images were poisoned, from the training's own facts."""
    facts = subject.facts
    return Result(
        quantities=(
            quantity_entry(subject.id, "poison-count", "poison_count", len(facts["poisoned"]), "images"),
            quantity_entry(subject.id, "poison-rate", "poison_rate", float(facts["poison_rate"]), "fraction"),
            quantity_entry(subject.id, "target-class-images", "images", int(facts["of_target_class"]), "images"),
        )
    )


def backdoor_row(settings: TriggerSettings, condition: str = "backdoor") -> Measure[TriggerSettings]:
    """The row for a backdoor's success."""
    return Measure(id=condition, function=backdoor(condition), settings=settings)


def target_class_row(settings: TriggerSettings) -> Measure[TriggerSettings]:
    """The row for the metrics on the target class."""
    return Measure(id="target-class", function=target_class, settings=settings)


POISONING = Measure(id="poisoning", function=poisoning, settings=Settings(), needs=frozenset({"file"}))


def partly_row(settings: PartlySettings) -> Measure[PartlySettings]:
    """The row for report 2's own check."""
    return Measure(id="partly-triggered", function=partly_triggered, settings=settings)
