"""The measure `clean`: accuracy, loss and confusion on unmodified test images, and what one prediction costs."""

from __future__ import annotations

import time

from secure_ai.core.result import Result
from secure_ai.core.results import MeasuredQuantity
from secure_ai.models.target.evaluate import evaluate
from secure_ai.red.evasion.trust.judged import judge_clean
from secure_ai.runs.engine.measure import Context, Measure, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.entries import confusion_entry, per_sample, quantity_entry, rate_entry

CONDITION = "clean"


def clean(subject: Subject, settings: Settings, context: Context) -> Result:
    """One prediction of every test image, timed."""
    test = context.data("test")
    checked = subject.checked(test)
    began = time.perf_counter()
    found = evaluate(checked.target, test.images, test.labels)
    seconds = time.perf_counter() - began
    accuracy = rate_entry(
        subject.id, CONDITION, "clean_accuracy", found.accuracy, "all test images, unmodified", data=test,
        trust=judge_clean(checked, test),
    )  # fmt: skip
    return Result(
        measurements=(accuracy,),
        quantities=(
            *_training_time(subject),
            quantity_entry(subject.id, "clean/loss", "loss", found.loss, "nats", n=len(test)),
            quantity_entry(subject.id, "inference/seconds", "inference_seconds", seconds, "seconds", n=len(test)),
            quantity_entry(subject.id, "inference/images", "inference_images", len(test), "images"),
        ),
        confusions=(confusion_entry(subject.id, CONDITION, "clean test images", found.confusion, test.class_names),),
        per_sample=(per_sample(accuracy, found.predictions == found.labels),),
    )


def _training_time(subject: Subject) -> tuple[MeasuredQuantity, ...]:
    if "train_seconds" not in subject.facts:
        return ()
    seconds = float(subject.facts["train_seconds"])
    return (quantity_entry(subject.id, "train/seconds", "training_seconds", seconds, "seconds"),)


CLEAN = Measure(id=CONDITION, function=clean, settings=Settings())
