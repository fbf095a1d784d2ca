"""`secure_ai.input_guard`: a filter of inputs that carry a trigger, in front of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from secure_ai.blue.guards.expert import expert_guard
from secure_ai.blue.guards.guard import Guard
from secure_ai.blue.guards.strip import strip_guard
from secure_ai.core.compute import Device, choose_device
from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import random_order
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.target.scorer import ScoreFunction
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.runs.given_data import Data, dataset_of
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import fed, is_object, load_subject, spec_of, target_for

Make = Callable[[NetworkTarget, Dataset, float, int], Guard]
"""(model, clean images, fraction of clean inputs that may be refused, seed) -> guard."""


@dataclass(frozen=True, slots=True)
class GuardRow:
    """A guard that can be asked for by name.

    Attributes:
        needs_weights: it trains copies of the network.
    """

    make: Make
    needs_weights: bool


def _strip(target: NetworkTarget, clean: Dataset, false_refusals: float, seed: int) -> Guard:
    return strip_guard(target, clean.images, false_refusals=false_refusals, seed=seed)


def _expert(target: NetworkTarget, clean: Dataset, false_refusals: float, seed: int) -> Guard:
    return expert_guard(target, clean, false_refusals=false_refusals, seed=seed)


GUARDS: Mapping[str, GuardRow] = {
    "strip": GuardRow(_strip, needs_weights=False),
    "expert": GuardRow(_expert, needs_weights=True),
}


def input_guard(
    model: ModelSpec | nn.Module | ScoreFunction,
    data: Data,
    *,
    method: str = "strip",
    false_refusals: float = 0.01,
    split: str = "test",
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    events: EventSink = ignore_event,
) -> Guard:
    """A guard that refuses inputs which look as if they carried a trigger; clean images set its threshold.

    Args:
        model: a network, a function from images to scores, or a file: `ModelSpec(model=FILE, arch="FILE.py:FACTORY")`.
        data: clean images like those the model was trained on, in any form that `attack` takes. Half of them make the
            score, the others set the threshold.
        method: strip (from scores) or expert (trains two copies of the network).
        false_refusals: fraction of clean inputs that may be refused, in (0, 1).

    Returns:
        A function: images (N, C, H, W), uint8 or float32 in [0, 1], -> `Guarded(x, refused, score)`; `refused` is
        (N,) bool, `score` (N,) float64, higher = more suspicious.

    Raises:
        SecureAIError: a model, data or request that cannot be used; too few images for the fraction.
    """
    if method not in GUARDS:
        raise UsageError("unknown guard", where="method", expected=" or ".join(GUARDS), got=method)
    row = GUARDS[method]
    dataset = dataset_of(data, split=split, n=n, resize=resize, seed=seed, events=events)
    spec = spec_of(model)
    loaded = load_subject(spec, dataset, events, given=model if is_object(model) else None)
    target = examine(target_for(loaded, dataset, spec, device=choose_device(device)), dataset, seed).target
    if row.needs_weights and (target.access != "gradients" or not any(True for _ in target.network.parameters())):
        raise UsageError("this guard trains copies of the network", where=loaded.name, got=loaded.format,
                         expected="gradients, and weights that are parameters")  # fmt: skip
    if target.access == "labels":
        raise UsageError("a guard needs scores", where="access", expected="scores or gradients", got=target.access)
    plain = replace(target, network=fed(target), transform=InputTransform())
    shuffled = dataset.select(random_order(len(dataset), seed, "input-guard"), dataset.note)  # both halves alike
    return row.make(plain, shuffled, false_refusals, seed)
