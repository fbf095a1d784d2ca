"""The measure `confidence`: calibration, and what a threshold on confidence rejects, clean and under attack."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.result import Result
from secure_ai.core.results import rate
from secure_ai.core.sections import Cell, Column, Section
from secure_ai.core.seeds import generator
from secure_ai.data.splits import sample
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.runs.engine.measure import Context, Measure, Passes, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.adversaries import pgd_examples, still
from secure_ai.runs.stages.entries import quantity_entry
from secure_ai.runs.user_model import fed

THRESHOLDS = (0.0, 0.5, 0.8, 0.9, 0.99)
BINS = 15
COLUMNS = (
    Column("threshold", "accepted from confidence"),
    Column("coverage", "clean images accepted"),
    Column("risk", "errors among accepted clean images"),
    Column("attacked", "images with an accepted adversarial error"),
)


class ConfidenceSettings(Settings):
    """On a sample of `n`, attacked in linf."""

    eps: float
    steps: int
    n: int | None = None


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al., 1706.04599, eq. 3), in [0, 1].

    Args:
        confidence: (N,) in [0, 1], of the predicted class.
        right: (N,) bool.
        bins: of equal width.
    """
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(right[index == one].mean()) - float(confidence[index == one].mean())) * int((index == one).sum())
        for one in np.unique(index)
    ]
    return sum(gaps) / len(right)


def confidence(subject: Subject, settings: ConfidenceSettings, context: Context) -> Result:
    """An attacker who knows the threshold looks for a confident error: PGD on the likeliest wrong class."""
    data = sample(context.data("test"), settings.n, context.seed)
    target = subject.checked(data).target
    network = fed(target)
    x, y = images_to_float(data.images).to(target.device), labels_to_tensor(data.labels).to(target.device)
    budget, draws = PerturbationBudget("linf", settings.eps), generator(context.seed, "confidence")
    with still(network):
        clean = _probabilities(network, x)
        made = [
            pgd_examples(network, part, label, budget=budget, steps=settings.steps, generator=draws, loss="confident")
            for part, label in zip(x.split(250), y.split(250), strict=True)
        ]
        attacked = _probabilities(network, torch.cat(made))
    right = clean.argmax(1) == data.labels
    wrong_confidence = worst_confidence(clean, attacked, data.labels)
    top = clean.max(1)
    rows: list[tuple[Cell, ...]] = []
    for threshold in THRESHOLDS:
        accepted = top >= threshold
        rows.append((
            f"{threshold:g}", rate(int(accepted.sum()), len(data)),
            rate(int((accepted & ~right).sum()), int(accepted.sum())) if accepted.any() else None,
            rate(int((wrong_confidence >= max(threshold, 1e-9)).sum()), len(data)),
        ))  # fmt: skip
    section = Section(
        f"confidence/{subject.id}", f"Rejecting by confidence: {subject.id}",
        "A threshold on confidence does not help where an attacker who knows it finds confident errors: last column.",
        COLUMNS, tuple(rows),
        f"PGD with {settings.steps} steps at {budget}: one attack, a stronger one may find more; "
        f"{data.note or 'all images'}",
    )  # fmt: skip
    error = quantity_entry(
        subject.id, "calibration/error", "calibration_error", calibration_error(top, right), "", n=len(data)
    )
    return Result(quantities=(error,), sections=(section,))


@torch.no_grad()
def _probabilities(network: nn.Module, x: Tensor) -> np.ndarray:
    found: np.ndarray = torch.cat([network(part).float().softmax(dim=1) for part in x.split(250)]).cpu().numpy()
    return found


def worst_confidence(clean: np.ndarray, attacked: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The more confident error of each image, (N,): an attacker may also leave it as it is.

    Args:
        clean, attacked: probabilities (N, K).
    """
    worse: np.ndarray = np.maximum(_wrong(clean, labels), _wrong(attacked, labels))
    return worse


def _wrong(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confidence of each prediction that is wrong, (N,); 0 where it is right."""
    predicted = probabilities.argmax(1)
    return np.where(predicted == labels, 0.0, probabilities.max(1))


def confidence_row(settings: ConfidenceSettings) -> Measure[ConfidenceSettings]:
    """The row."""
    return Measure(
        id="confidence", function=confidence, settings=settings, needs=frozenset({"test", "gradients"}),
        passes=lambda own, n, holds: Passes(own.steps * min(own.n or n, n), own.steps * min(own.n or n, n)),
    )  # fmt: skip
