"""The transfer matrix: every network on the examples made for every other one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.comparisons import Transfer
from secure_ai.core.result import Result
from secure_ai.core.results import Measurement
from secure_ai.core.sections import Picture
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import sample
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.transfer import transfer
from secure_ai.red.evasion.suite.harness import score_examples
from secure_ai.red.evasion.suite.result import ExamplesScore
from secure_ai.red.evasion.trust.judge import judge_examples
from secure_ai.runs.engine.measure import Context, Joint, Passes, Settings
from secure_ai.runs.engine.result_file import ARRAYS_NAME, npz_bytes
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.entries import rate_entry
from secure_ai.runs.stages.examples import attack_every_image
from secure_ai.runs.stages.gallery import Row, gallery, gallery_row, spread_over_classes

METRIC = "transfer_accuracy"


class TransferSettings(Settings):
    """PGD with momentum at one budget.

    Attributes:
        id: of the matrix in the report.
        n: a stratified random sample of so many test images.
        first_n: drawn from the sample of so many, where other figures are over that one.
        pictures: picture id and title -> networks whose examples it shows.
    """

    id: str
    norm: Norm
    eps: float
    eps_text: str = ""
    n: int
    steps: int
    first_n: int | None = None
    pictures: tuple[tuple[str, str, tuple[str, ...]], ...] = ()


def transfer_matrix(subjects: Mapping[str, Subject], settings: TransferSettings, context: Context) -> Result:
    """Examples for each network, all of them scored on every network.

    The examples are those of the attack `transfer`: PGD with momentum, all steps, on every image, misclassified ones
    too. A rate is correct on the clean image and on the example ÷ all images.
    """
    data = sample(sample(context.data("test"), settings.first_n, context.seed), settings.n, context.seed)
    targets = {name: subject.checked(data).target for name, subject in subjects.items()}
    if reason := _lacking(targets):
        return Result(not_tested=(reason,))
    budget, labels = PerturbationBudget(settings.norm, settings.eps, settings.eps_text), np.asarray(data.labels)
    correct = {name: evaluate(target, data.images, labels).predictions == labels for name, target in targets.items()}
    chosen = spread_over_classes(labels, np.logical_and.reduce(list(correct.values())))
    rates, entries, rows = [], [], {}
    for number, (source, network) in enumerate(targets.items()):
        examples, _ = attack_every_image(
            transfer, network, data, budget, context.seed, _silent, network=network, steps=settings.steps
        )
        own = score_examples(network, examples, labels, data.images, budget=budget, made_for=network.digest)
        row = {
            name: own if name == source else _score(target, examples, labels, own, correct[name])
            for name, target in targets.items()
        }
        rates.append(tuple(row[name].robust_accuracy for name in targets))
        entries += _entries(source, row, _attack_text(settings.steps), data)
        if len(chosen):
            rows[source] = gallery_row(source, network, data, chosen, examples[chosen])
        context.progress(number + 1, len(targets))
    return replace(
        _with_pictures(settings, rows, context),
        measurements=tuple(entries),
        transfers=(
            Transfer(
                id=settings.id, networks=tuple(targets), budget=budget, attack=_attack_text(settings.steps),
                n=len(data), note=data.note, rates=tuple(rates),
            ),
        ),
    )  # fmt: skip


def _silent(done: int, total: int) -> None:
    pass


def _lacking(targets: Mapping[str, NetworkTarget]) -> str:
    access = next((target.access for target in targets.values() if target.access != "gradients"), None)
    return f"the transfer matrix: its examples need gradients, and the network gives {access} only" if access else ""


def _score(
    target: NetworkTarget, examples: np.ndarray, labels: np.ndarray, own: ExamplesScore, clean_correct: np.ndarray
) -> ExamplesScore:
    """Another network on examples that `own` has verified, without a second pass over the clean images."""
    predictions = evaluate(target, examples, labels).predictions
    return replace(
        own,
        model_digest=target.digest,
        clean_correct=clean_correct,
        adversarial_correct=predictions == labels,
        predictions=predictions,
    )


def _attack_text(steps: int) -> str:
    return f"PGD-{steps} with momentum 1"


def _entries(source: str, row: Mapping[str, ExamplesScore], attack: str, data: Dataset) -> list[Measurement]:
    """The measurements of every network but the source: its own examples are no transfer."""
    return [
        rate_entry(
            name,
            f"from/{source}",
            METRIC,
            score.robust_accuracy,
            f"{attack} examples made for {source}; {data.note or 'all images'}",
            data=data,
            budget=score.budget,
            trust=judge_examples(score),
            made_for=source,
        )
        for name, score in row.items()
        if name != source
    ]


def _with_pictures(settings: TransferSettings, rows: Mapping[str, Row], context: Context) -> Result:
    """The pictures that the settings ask for; their arrays are kept beside."""
    arrays: dict[str, np.ndarray] = {}
    pictures: list[Picture] = []
    for identifier, title, networks in settings.pictures:
        drawn, own = gallery(identifier, title, [rows[name] for name in networks if name in rows])
        pictures += drawn
        arrays |= own
    if arrays:
        context.keep(ARRAYS_NAME, npz_bytes(arrays))
    return Result(pictures=tuple(pictures))


def matrix_row(settings: TransferSettings, networks: Sequence[str]) -> Joint[TransferSettings]:
    """The row for the matrix over `networks`."""
    return Joint(
        id=settings.id,
        function=transfer_matrix,
        settings=settings,
        networks=tuple(networks),
        data=("test",),
        passes=lambda own, n, holds: Passes(
            min(own.n, n) * (2.0 + own.steps + len(networks)), min(own.n, n) * float(own.steps)
        ),
    )
