"""The user's own network and, where one is named, a surrogate: what `assess` measures on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from secure_ai.core.budget import PerturbationBudget, parse_budget
from secure_ai.core.comparisons import Confusion
from secure_ai.core.events import EventSink
from secure_ai.core.result import Result
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import sample
from secure_ai.models.target.answers import answers_digest
from secure_ai.models.target.evaluate import counted
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.judged import judge_clean
from secure_ai.runs.cases.parts import scan_settings
from secure_ai.runs.cases.user.given import JudgedFiles
from secure_ai.runs.engine.measure import Context, Joint, Measure, Network, Role
from secure_ai.runs.engine.result_file import ARRAYS_NAME, npz_bytes
from secure_ai.runs.engine.rows import Given
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.engine.subjects import model_of
from secure_ai.runs.model_spec import SUBJECT, SURROGATE, ModelSpec
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.stages.backdoor_detection import scan_row
from secure_ai.runs.stages.curve import CurveSettings, curve_passes, security_curve
from secure_ai.runs.stages.distance import DistanceSettings, distance_passes, median_distance
from secure_ai.runs.stages.entries import confusion_entry, per_sample, rate_entry
from secure_ai.runs.stages.folder_code import code_findings
from secure_ai.runs.stages.gallery import Row, gallery, gallery_row, spread_over_classes
from secure_ai.runs.stages.robust import (
    AttackSettings,
    judged,
    kept_whole,
    replay_of,
    robust_entry,
    suite_passes_with_probes,
)
from secure_ai.runs.stages.transfer import TransferSettings, matrix_row
from secure_ai.runs.user_model import load_subject, target_for

MOST_CLASSES = 100  # of a confusion matrix
FINGERPRINT_IMAGES = 64
PICTURE = "adversarial_examples_subject"
PICTURE_TITLE = "Adversarial examples for the network; prediction and confidence below"

Subjects = Mapping[str, Subject]


def networks(models: Mapping[str, JudgedFiles], recipe: Recipe) -> tuple[Network, ...]:
    """The network that is assessed, and its surrogate where there is one.

    Args:
        models: by network id.
        recipe: its part `scan` looks for a backdoor, `backdoors` trains control networks for it where none are.
    """
    roles: Mapping[str, Role] = {SUBJECT: "subject", SURROGATE: "surrogate"}
    return tuple(
        Network(
            id=name,
            role=roles[name],
            title=_title(judged_files.spec),
            arch=judged_files.spec.arch or "",
            spec=judged_files.spec,
            measures=_scanned(judged_files.spec.arch or "", recipe) if name == SUBJECT else (),
            holds=0.5,
        )
        for name, judged_files in models.items()
    )


def _scanned(arch: str, recipe: Recipe) -> tuple[Measure[Any], ...]:
    if "scan" not in recipe.parts:
        return ()
    return (scan_row(arch, scan_settings(recipe, arch, trained=False), data=recipe.data.test),)


def _title(spec: ModelSpec) -> str:
    """The model as the user knows it: its file without the folder, or the factory."""
    place, colon, factory = (spec.arch or "").rpartition(":")
    return PurePath(spec.model).name if spec.model else f"{PurePath(place).name}{colon}{factory}"


def given(models: Mapping[str, JudgedFiles], test: Callable[[], Dataset], events: EventSink) -> dict[str, Given]:
    """What decides the stages about these networks, by network id.

    Args:
        test: the images that fingerprints are taken on.
    """
    return {
        name: Given(one.file_sha256, one.code_sha256, _fingerprint(one, test, events) if one.user_code else _known)
        for name, one in models.items()
    }


def _known() -> str:
    """Of a network without code of the user's: its file says all."""
    return ""


def _fingerprint(one: JudgedFiles, test: Callable[[], Dataset], events: EventSink) -> Callable[[], str | None]:
    """What its code makes of 64 images, logits and gradients, found once a run: code may read what no digest sees."""

    @functools.cache
    def found() -> str | None:
        data = test()
        target = target_for(load_subject(one.spec, data, events), data, one.spec)
        spread = np.linspace(0, len(data) - 1, min(len(data), FINGERPRINT_IMAGES)).astype(np.int64)
        return answers_digest(target, images_to_float(data.images[spread]), labels_to_tensor(data.labels[spread]))

    return found


def joints(recipe: Recipe, dimensions: tuple[int, int, int]) -> tuple[Joint[Any], ...]:
    """What is measured with the surrogate, where there is one: the suite, its curve, the transfer matrix."""
    own, budget = recipe.assess, _budget(recipe, dimensions)
    concerned = (SUBJECT,) if own.surrogate is None else (SUBJECT, SURROGATE)
    attack = AttackSettings(attack=own.attack, norm=budget.norm, eps=budget.eps, eps_text=budget.eps_text, n=own.n)
    curve = CurveSettings(**attack.model_dump(), factors=tuple(own.curve))
    rows: tuple[Joint[Any], ...] = (
        Joint(
            id="assess/attack", function=attack_subject, settings=attack, networks=concerned, data=("test",),
            passes=suite_passes_with_probes,
        ),
        Joint(
            id="assess/curve", function=curve_of_subject, settings=curve, networks=concerned, data=("test",),
            passes=curve_passes,
        ),
        Joint(
            id="assess/distance", function=distance_of_subject, networks=(SUBJECT,), data=("test",),
            settings=DistanceSettings(norm=budget.norm, steps=own.distance_steps, n=own.distance_n, first_n=own.n),
            passes=distance_passes,
        ),
    )  # fmt: skip
    if own.surrogate is None:
        return rows
    matrix = TransferSettings(
        id="assess/transfer", norm=budget.norm, eps=budget.eps, eps_text=budget.eps_text, n=own.n,
        steps=recipe.transfer.steps,
    )  # fmt: skip
    return (*rows, matrix_row(matrix, concerned))


def _budget(recipe: Recipe, dimensions: tuple[int, int, int]) -> PerturbationBudget:
    channels, height, width = dimensions
    return parse_budget(recipe.assess.norm, recipe.assess.eps, channels * height * width)


def _surrogate(subjects: Subjects, data: Dataset) -> NetworkTarget | None:
    return subjects[SURROGATE].checked(data).target if SURROGATE in subjects else None


def attack_subject(subjects: Subjects, settings: AttackSettings, context: Context) -> Result:
    """Preflight, clean accuracy and the suite on the recipe's sample."""
    subject = subjects[SUBJECT]
    data = sample(context.data("test"), settings.n, context.seed)
    checked = subject.checked(data)
    found = judged(subject, data, settings, context, surrogate=_surrogate(subjects, data), keep_examples=True)
    clean = rate_entry(
        subject.id,
        "clean",
        "clean_accuracy",
        found.result.clean_accuracy,
        f"{data.note or 'all images'}, unmodified",
        data=data,
        trust=judge_clean(checked, data),
    )
    attacks = ", ".join(plan.name for plan in found.result.plans)
    attacked = robust_entry(subject, "attacked", found, f"worst case over {attacks}", data)
    surrogates = (one for name, one in subjects.items() if name != SUBJECT)
    models = (model_of(subject, found.checked), *(model_of(one, one.checked(data)) for one in surrogates))
    findings = code_findings(subject)
    kept_whole(found, Result(measurements=(clean, attacked), models=models, findings=findings), context)
    classes = data.class_names or checked.target.known.class_names
    pictures, arrays = gallery(PICTURE, PICTURE_TITLE, _gallery_rows(found.result, checked.target, data), classes)
    if arrays:
        context.keep(ARRAYS_NAME, npz_bytes(arrays))
    return Result(
        measurements=(clean, attacked),
        models=models,
        findings=findings,
        pictures=pictures,
        confusions=_confusions(found.result, np.asarray(data.labels), classes),
        per_sample=(per_sample(clean, found.result.clean_correct), per_sample(attacked, found.robust)),
        replays=(replay_of(attacked, found.result, data),),
    )


def curve_of_subject(subjects: Subjects, settings: CurveSettings, context: Context) -> Result:
    """Robust accuracy over the recipe's grid of eps."""
    data = sample(context.data("test"), settings.n, context.seed)
    return security_curve(subjects[SUBJECT], settings, context, _surrogate(subjects, data))


def distance_of_subject(subjects: Subjects, settings: DistanceSettings, context: Context) -> Result:
    """The median distance to the nearest adversarial example found."""
    return median_distance(subjects[SUBJECT], settings, context)


def _confusions(result: SuiteResult, labels: np.ndarray, names: tuple[str, ...]) -> tuple[Confusion, ...]:
    """What the images were taken for, clean and in the worst case; none where there are very many classes."""
    size = result.num_classes
    kept = result.evaluated
    if size > MOST_CLASSES or not kept.any():
        return ()
    true, attacked = labels[kept], result.predictions[kept]
    clean = np.where(result.clean_correct[kept], true, attacked)  # what is misclassified unchanged is not attacked
    titles = (("clean", "clean images", clean), ("attacked", "worst case of the suite", attacked))
    return tuple(
        confusion_entry(SUBJECT, name, title, counted(true, predicted, size), names[:size])
        for name, title, predicted in titles
    )


def _gallery_rows(result: SuiteResult, target: NetworkTarget, data: Dataset) -> list[Row]:
    """Examples of every attack that broke something; where none did, the strongest attempts."""
    groups = [(f"broken by {plan.name}", result.broken_by == number) for number, plan in enumerate(result.plans)]
    groups = [group for group in groups if group[1].any()]
    groups = groups or [("not broken: the strongest attempts", result.robust)]
    rows = []
    for title, allowed in groups:
        chosen = spread_over_classes(np.asarray(data.labels), allowed)
        if result.x_adv is not None and len(chosen):
            rows.append(gallery_row(title, target, data, chosen, result.x_adv[chosen]))
    return rows
