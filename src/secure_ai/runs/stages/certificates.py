"""The measure `certified`: how many images no attack can change, proven, beside what an attack leaves of the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.certify.smoothing import ABSTAIN, Smoothed, Smoothing, certify, votes
from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.compute import exact_kernels
from secure_ai.core.errors import UsageError
from secure_ai.core.result import Result
from secure_ai.core.results import rate
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import sample
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.runs.engine.measure import Context, Measure, Passes, Settings
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.adversaries import pgd_examples, still
from secure_ai.runs.stages.entries import per_sample, rate_entry
from secure_ai.runs.stages.hardening_methods import BOUNDS
from secure_ai.runs.user_model import fed

CertifyMethod = Literal["ibp", "crown-ibp", "smoothing"]
SIGMA_OF_EPS = 1 / 3  # as `harden --method gaussian` trains
ATTACK_SAMPLES, ATTACK_STEPS = 32, 20
NORMS: dict[str, Norm] = {"ibp": "linf", "crown-ibp": "linf", "smoothing": "l2"}


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What is proven of every image.

    Attributes:
        clean, proven: (N,) bool; of smoothing: of the smoothed classifier, which may abstain.
        radius: (N,) certified radius where smoothing was asked; else empty.
        abstained: (N,) bool, where smoothing named no class; neither clean nor proven. Empty for bounds.
    """

    clean: np.ndarray
    proven: np.ndarray
    radius: np.ndarray
    abstained: np.ndarray


def norm_of(method: str) -> str:
    """The norm that a method certifies. Raises UsageError for one that does not exist."""
    if method not in NORMS:
        raise UsageError("unknown method", where="--method", expected=" or ".join(NORMS), got=method)
    return NORMS[method]


def checked_budget(method: str, budget: PerturbationBudget) -> None:
    """Refuse a norm that the method cannot certify. Raises UsageError."""
    norm = norm_of(method)
    if budget.norm != norm:
        raise UsageError(f"{method} certifies another norm", where="--norm", expected=norm, got=budget.norm)


def bounds(
    target: NetworkTarget, data: Dataset, budget: PerturbationBudget, method: CertifyMethod = "ibp"
) -> Certificate:
    """By a method of `BOUNDS`: every input of the linf ball within [0, 1]. Raises ArchError for an unknown layer."""
    x, y = images_to_float(data.images).double().to(target.device), labels_to_tensor(data.labels).to(target.device)
    clean = evaluate(target, data.images, data.labels)
    proven = BOUNDS[method](fed(target), (x - budget.eps).clamp(0, 1), (x + budget.eps).clamp(0, 1), y)
    return Certificate(clean.predictions == clean.labels, proven.cpu().numpy(), np.empty(0), np.empty(0, dtype=bool))


def smoothed(
    target: NetworkTarget,
    data: Dataset,
    budget: PerturbationBudget,
    smoothing: Smoothing,
    seed: int,
    progress: Callable[[int, int], None],
) -> Certificate:
    """By randomised smoothing. Raises UsageError where no image could reach the radius with so few samples."""
    if smoothing.largest_radius < budget.eps:
        raise UsageError(
            "no image can be certified at this radius", where="--eps", got=budget.eps,
            expected=f"at most {smoothing.largest_radius:.3g} (sigma {smoothing.sigma:g}, {smoothing.count} samples)",
            hint="more samples, or a larger sigma",
        )  # fmt: skip
    x, network = images_to_float(data.images).to(target.device), fed(target).eval()
    classes, radius = target.num_classes, np.zeros(len(data))
    named = np.full(len(data), ABSTAIN)
    with still(network), exact_kernels(target.device):
        for i in range(len(data)):
            named[i], radius[i] = certify(network, x[i], classes, smoothing, seed, int(data.indices[i]))
            progress(i + 1, len(data))
    right = named == data.labels
    return Certificate(right, right & (radius >= budget.eps), np.where(right, radius, 0.0), named == ABSTAIN)


def withstood_smoothed(
    target: NetworkTarget, data: Dataset, budget: PerturbationBudget, smoothing: Smoothing, seed: int
) -> np.ndarray:
    """(N,) bool: the smoothed classifier still names the true class after PGD on its mean probabilities (EOT)."""
    x, y = images_to_float(data.images).to(target.device), labels_to_tensor(data.labels).to(target.device)
    network = fed(target).eval()
    attacked = Smoothed(network, smoothing, ATTACK_SAMPLES, data.input_shape)
    found = np.zeros(len(data), dtype=bool)
    draws = generator(seed, "attack-smoothed")
    with still(attacked), exact_kernels(target.device):
        for start in range(0, len(data), 16):
            part = slice(start, start + 16)
            x_adv = pgd_examples(attacked, x[part], y[part], budget=budget, steps=ATTACK_STEPS, generator=draws)
            for offset, example in enumerate(x_adv):
                i = start + offset
                found[i] = _voted(network, example, target.num_classes, smoothing, seed, i) == int(y[i])
    return found


def _voted(network: nn.Module, x: Tensor, classes: int, smoothing: Smoothing, seed: int, index: int) -> int:
    return int(votes(network, x, classes, smoothing.count, smoothing, seed, index, "attacked").argmax())


class CertifiedSettings(Settings):
    """By interval bounds, on a sample of `n`."""

    eps: float
    n: int | None = None


def certified(subject: Subject, settings: CertifiedSettings, context: Context) -> Result:
    """Certified accuracy at `eps` in linf: a lower bound of the accuracy under any attack."""
    data = sample(context.data("test"), settings.n, context.seed)
    budget = PerturbationBudget("linf", settings.eps)
    with torch.no_grad():
        found = bounds(subject.checked(data).target, data, budget)
    entry = rate_entry(
        subject.id, "certified", "certified_accuracy", rate(int(found.proven.sum()), len(data)),
        "interval bounds in float64: no attack within the budget changes these predictions", data=data, budget=budget,
    )  # fmt: skip
    return Result(measurements=(entry,), per_sample=(per_sample(entry, found.proven),))


def certified_row(settings: CertifiedSettings) -> Measure[CertifiedSettings]:
    """The row."""
    return Measure(
        id="certified", function=certified, settings=settings, needs=frozenset({"test", "gradients"}),
        passes=lambda own, n, holds: Passes(4.0 * min(own.n or n, n)),
    )  # fmt: skip
