"""Examples of every image by one attack, as both reports made them: attacked itself, or transferred from the twin."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.result import Result
from secure_ai.core.seeds import generator
from secure_ai.core.trust import Trust, check, judge, sample_size_check
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.evaluate import Evaluation, evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.attacks.pgd import fgsm
from secure_ai.red.evasion.contract import SHARD_SIZE
from secure_ai.red.evasion.suite.harness import score_examples
from secure_ai.red.evasion.trust.judge import judge_examples
from secure_ai.runs.engine.measure import Context, Measure, Passes, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.entries import confusion_entry, quantity_entry, rate_entry

AddProgress = Callable[[int, int], None]


class FgsmSettings(Settings):
    """FGSM in linf.

    Attributes:
        labels: `predicted`: the network's own predictions, as ART does where it is given none.
        first: only the first images in file order; None: all.
    """

    eps: float
    labels: Literal["true", "predicted"] = "true"
    first: int | None = None


def attack_every_image(
    attack: Callable[..., Tensor],
    target: NetworkTarget,
    dataset: Dataset,
    budget: PerturbationBudget,
    seed: int,
    progress: AddProgress,
    **settings: Any,
) -> tuple[np.ndarray, float]:
    """x_adv (N, C, H, W) float32 of every image, misclassified ones too (as both reports do), and the seconds taken."""
    began = time.perf_counter()
    # One array from the start: parts kept between the passes' large blocks fragment the heap to gigabytes.
    examples = np.empty(dataset.images.shape, dtype=np.float32)
    with target.attacked():
        for start in range(0, len(dataset), SHARD_SIZE):
            x = images_to_float(dataset.images[start : start + SHARD_SIZE]).to(target.device)
            y = torch.from_numpy(np.array(dataset.labels[start : start + SHARD_SIZE])).to(target.device)
            random = generator(seed, "every-image", start)
            x_adv = attack(target, x, y, budget=budget, generator=random, **settings)
            examples[start : start + SHARD_SIZE] = x_adv.cpu().numpy()
            progress(min(start + SHARD_SIZE, len(dataset)), len(dataset))
    return examples, time.perf_counter() - began


def fgsm_examples(
    target: NetworkTarget, data: Dataset, settings: FgsmSettings, context: Context
) -> tuple[np.ndarray, float]:
    """FGSM examples of every image of `data` on `target`, and the seconds taken."""
    budget = PerturbationBudget("linf", settings.eps)
    return attack_every_image(fgsm, target, data, budget, context.seed, context.progress, labels=settings.labels)


def fgsm_as_reported(condition: str) -> Callable[[Subject, FgsmSettings, Context], Result]:
    """The function of the measure `condition`: accuracy under FGSM as a report counts it, clean errors included."""

    def measure(subject: Subject, settings: FgsmSettings, context: Context) -> Result:
        test, target = context.data("test"), subject.target()
        if settings.first is not None:
            test = test.select(np.arange(min(settings.first, len(test))), "first N, not a random sample", drawn="first")
        examples, seconds = fgsm_examples(target, test, settings, context)
        found = evaluate(target, examples, test.labels)
        attacked = rate_entry(
            subject.id,
            condition,
            "accuracy_as_reported",
            found.accuracy,
            f"FGSM, {settings.labels} labels; misclassified images count as attacked, as in the report",
            data=test,
            budget=PerturbationBudget("linf", settings.eps),
            trust=_one_step_trust(found),
        )
        return Result(
            measurements=(attacked,),
            quantities=(
                quantity_entry(subject.id, f"{condition}/loss", "loss", found.loss, "nats", n=len(test)),
                quantity_entry(subject.id, f"{condition}/seconds", "generation_seconds", seconds, "seconds"),
            ),
            confusions=(
                confusion_entry(subject.id, condition, f"under FGSM, labels {settings.labels}", found.confusion),
            ),
        )

    return measure


def _one_step_trust(found: Evaluation) -> Trust:
    """What accuracy under one FGSM step, counted as a report counts it, deserves: never more than `doubtful`."""
    checks = [
        sample_size_check(found.accuracy.n),
        check("one-step-only", False, "one attack of one step"),
        check("clean-errors-counted", None, "misclassified images count as attacked, as in the report"),
    ]
    return judge(checks, breaking=frozenset())


def transferred(subject: Subject, settings: FgsmSettings, context: Context) -> Result:
    """Accuracy on FGSM examples made for the twin: never a robust accuracy, and the trust verdict says so."""
    test, target, twin = context.data("test"), subject.target(), subject.twin()
    source = twin.target()
    examples, _ = fgsm_examples(source, test, settings, context)
    budget = PerturbationBudget("linf", settings.eps)
    score = score_examples(target, examples, test.labels, test.images, budget=budget, made_for=source.digest)
    trust, found = judge_examples(score), evaluate(target, examples, test.labels)
    protocol = f"FGSM examples made for {twin.id}"
    entry = partial(rate_entry, subject.id, data=test, budget=budget, trust=trust, made_for=twin.id)
    return Result(
        measurements=(
            entry("transferred", "robust_accuracy", score.robust_accuracy, protocol),
            entry(
                "transferred-all",
                "accuracy_as_reported",
                score.adversarial_accuracy,
                f"{protocol}; misclassified images count as attacked, as in the report",
            ),
        ),
        quantities=(quantity_entry(subject.id, "transferred/loss", "loss", found.loss, "nats", n=len(test)),),
        confusions=(
            confusion_entry(subject.id, "transferred", "FGSM examples made for the baseline", found.confusion),
        ),
    )


def fgsm_reported(condition: str, settings: FgsmSettings) -> Measure[FgsmSettings]:
    """The row for accuracy under FGSM as a report counts it."""
    return Measure(
        id=condition,
        function=fgsm_as_reported(condition),
        settings=settings,
        needs=frozenset({"test", "gradients"}),
        passes=lambda own, n, holds: Passes(2.0 * (own.first or n), 1.0 * (own.first or n)),
    )


def transferred_from_twin(settings: FgsmSettings) -> Measure[FgsmSettings]:
    """The row for accuracy on the twin's FGSM examples."""
    return Measure(
        id="transferred",
        function=transferred,
        settings=settings,
        needs=frozenset({"test", "gradients", "twin"}),
        passes=lambda own, n, holds: Passes(4.0 * n, 1.0 * n),
    )
