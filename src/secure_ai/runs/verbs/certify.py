"""The verb `certify`: how many predictions no attack can change, beside what an attack leaves of the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from secure_ai.blue.certify.smoothing import Smoothing
from secure_ai.core.budget import PerturbationBudget, parse_budget
from secure_ai.core.compute import Device, configure
from secure_ai.core.errors import TargetError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION, Rate, rate
from secure_ai.core.trust import CheckOutcome, Trust, check, judge, sample_size_check
from secure_ai.data.dataset import Dataset
from secure_ai.models.load.store import LoadedModel
from secure_ai.models.preflight.preflight import Preflight, examine
from secure_ai.red.evasion.contract import ignore_progress
from secure_ai.red.evasion.suite.parse import parse_suite
from secure_ai.red.evasion.trust.judged import judge_network
from secure_ai.runs.given_data import dataset_of
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe import defaults
from secure_ai.runs.stages.certificates import (
    ATTACK_SAMPLES,
    ATTACK_STEPS,
    SIGMA_OF_EPS,
    Certificate,
    CertifyMethod,
    bounds,
    checked_budget,
    norm_of,
    smoothed,
    withstood_smoothed,
)
from secure_ai.runs.stages.hardening_methods import BOUNDS
from secure_ai.runs.stages.robust import whole
from secure_ai.runs.user_model import is_object, load_subject, spec_of, target_for

SAMPLES, ALPHA = 10_000, 0.001
SMOOTHING_BATCH = {"cpu": 1000, "cuda": 20_000}
ATTACK_OF_SMOOTHED = f"PGD, {ATTACK_STEPS} steps, on the mean probabilities of {ATTACK_SAMPLES} noisy copies"
WEAK = check("suite-strength", False, f"{ATTACK_OF_SMOOTHED}: one attack, not a suite")
RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class CertifyReport:
    """What `certify` found.

    Attributes:
        clean, certified, attacked: of the same images. Certified is a lower bound, attacked an upper bound, of the
            accuracy under the strongest attack. For smoothing all three are of the smoothed classifier.
        trust: of `attacked`.
        contradictions: images that are certified and were changed all the same: 0, or the certificate is wrong.
        settings: of the method: samples, confidence, radii.
    """

    model: LoadedModel
    data: Dataset
    budget: PerturbationBudget
    method: str
    clean: Rate
    certified: Rate
    attacked: Rate
    trust: Trust
    contradictions: int
    settings: dict[str, Any]
    proven: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai certify --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {"name": self.model.name, "digest": self.model.digest, "arch": self.model.arch},
            "data": {"name": self.data.name, "digest": self.data.digest, "n": len(self.data), "note": self.data.note},
            "budget": self.budget.as_json(),
            "method": self.method,
            "clean_accuracy": self.clean.as_json(),
            "certified_accuracy": self.certified.as_json(),
            "attacked_accuracy": self.attacked.as_json(),
            "trust": self.trust.as_json(),
            "contradictions": self.contradictions,
            **self.settings,
        }


def certify(
    model: ModelSpec | nn.Module,
    data: str | Dataset,
    *,
    eps: str | float,
    norm: str | None = None,
    method: CertifyMethod = "ibp",
    attack: str | None = None,
    sigma: float | None = None,
    samples: int | None = None,
    alpha: float | None = None,
    split: str = "test",
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = ignore_progress,
) -> CertifyReport:
    """Certified accuracy beside attacked accuracy on the same images.

    Args:
        norm: None: the one that the method certifies, linf for `ibp` and `crown-ibp`, l2 for `smoothing`.
        method: interval bounds, or CROWN-IBP's, which are never looser and cost more, for sequential networks of known
            layers; or randomised smoothing, for any network.
        attack: of bounds: the list as of `attack`; None: `fast`. The smoothed classifier is attacked by PGD on its
            mean probabilities, so that what is attacked stays a doubtful figure.
        sigma: of smoothing's noise; None: a third of eps.
        samples, alpha: of smoothing, per image; None: 10,000 and 0.001.
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SecureAIError: a request, a file or a network that cannot be used; a layer that bounds do not know, by name;
            for smoothing a network whose answer to an image depends on chance or on the images beside it.
    """
    for name, value, least, most in (("--samples", samples, 100, 10**7), ("--alpha", alpha, 1e-9, 0.5)):
        if value is not None and not least <= value <= most:
            raise UsageError("out of range", where=name, expected=f"{least:g} to {most:g}", got=value)
    dataset = dataset_of(data, split=split, n=n, resize=resize, seed=seed, events=events)
    budget = parse_budget(norm or norm_of(method), eps, dataset.images[0].size)
    checked_budget(method, budget)
    _refuse_unused(method, {"--attack": attack}, {"--sigma": sigma, "--samples": samples, "--alpha": alpha})
    compute = configure("float32", device)
    smoothing = Smoothing(
        sigma=sigma if sigma is not None else SIGMA_OF_EPS * budget.eps,
        count=samples or SAMPLES,
        alpha=alpha or ALPHA,
        batch=SMOOTHING_BATCH[compute.device.type],
    )
    if not 0 < smoothing.sigma <= 10:
        raise UsageError("out of range", where="--sigma", expected="above 0, at most 10", got=smoothing.sigma)
    spec = spec_of(model)
    loaded = load_subject(spec, dataset, events, given=model if is_object(model) else None)
    target = target_for(loaded, dataset, spec, device=compute.device)
    checked = examine(target, dataset, seed)
    if method in BOUNDS:
        found = bounds(checked.target, dataset, budget, method)
        asked = attack or defaults.ATTACK
        plans = parse_suite(asked, budget.norm, checked.target.access, len(dataset), checked.target.num_classes).plans
        judged = whole(judge_network(checked.target, dataset, budget, plans, seed, checked=checked, progress=progress))
        return _report(loaded, dataset, budget, method, found, judged.robust, judged.trust, {"attack": asked})
    _refuse_unsteady(checked)
    found = smoothed(checked.target, dataset, budget, smoothing, seed, progress)
    withstood = withstood_smoothed(checked.target, dataset, budget, smoothing, seed) & found.clean
    return _report(
        loaded, dataset, budget, method, found, withstood,
        judge([sample_size_check(len(dataset)), *checked.checks, WEAK], breaking=frozenset()),
        _smoothing_facts(smoothing, found),
    )  # fmt: skip


def _refuse_unused(method: str, of_bounds: dict[str, object], of_smoothing: dict[str, object]) -> None:
    """A setting of another method would do nothing."""
    for name, value in (of_bounds if method == "smoothing" else of_smoothing).items():
        if value is not None:
            raise UsageError(f"{method} has no such setting", where=name, expected="none", got=value)


def _refuse_unsteady(checked: Preflight) -> None:
    """A certificate counts the answers of one function of one image; a network that answers otherwise has none."""
    for made in checked.checks:
        if made.id in ("deterministic", "batch-independent") and made.outcome is CheckOutcome.FAIL:
            raise TargetError("no function of one image", where=made.id, expected="pass", got=made.evidence)


def _smoothing_facts(smoothing: Smoothing, found: Certificate) -> dict[str, Any]:
    n = len(found.radius)
    return {
        "attack": ATTACK_OF_SMOOTHED,
        "sigma": smoothing.sigma,
        "samples_to_choose": smoothing.choose,
        "samples": smoothing.count,
        "alpha": smoothing.alpha,
        "largest_radius": smoothing.largest_radius,
        "abstained": rate(int(found.abstained.sum()), n).as_json(),
        "certified_at": {f"{r:g}": rate(int((found.clean & (found.radius >= r)).sum()), n).as_json() for r in RADII},
    }


def _report(
    loaded: LoadedModel,
    data: Dataset,
    budget: PerturbationBudget,
    method: str,
    found: Certificate,
    withstood: np.ndarray,
    trust: Trust,
    settings: dict[str, Any],
) -> CertifyReport:
    n = len(data)
    return CertifyReport(
        model=loaded,
        data=data,
        budget=budget,
        method=method,
        clean=rate(int(found.clean.sum()), n),
        certified=rate(int(found.proven.sum()), n),
        attacked=rate(int(withstood.sum()), n),
        trust=trust,
        contradictions=int((found.proven & ~withstood).sum()),
        settings=settings,
        proven=found.proven,
    )
