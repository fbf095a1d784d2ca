"""The user's own model, in whatever form it was named: a file, a factory, a network or a callable."""

from __future__ import annotations

from typing import Any

from secure_ai.core.errors import ArchError, UsageError
from secure_ai.core.events import EventSink
from secure_ai.data.dataset import Dataset
from secure_ai.models.load.store import LoadedModel, load_model, make_target, model_of_factory, model_of_object
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.target.target import NetworkTarget
from secure_ai.runs.model_spec import ModelSpec

IN_MEMORY = "given in Python"


def spec_of(model: ModelSpec | Any) -> ModelSpec:
    """How to feed `model`: as it says itself, or as plain pixels in [0, 1]."""
    return model if isinstance(model, ModelSpec) else ModelSpec()


def load_subject(model: ModelSpec | Any, dataset: Dataset, events: EventSink) -> LoadedModel:
    """Read, run or take the model. Raises SecureAIError."""
    if not isinstance(model, ModelSpec):
        return model_of_object(model, None, name=IN_MEMORY, arch="")
    if model.model is not None:
        return load_model(
            model.model, arch=model.arch, classes=dataset.classes, input_shape=dataset.input_shape, events=events
        )
    if model.arch is None:
        raise UsageError("no model named", where="--model", expected="a model file, or --arch FILE.py:FACTORY")
    return model_of_factory(model.arch, model.access, events=events)


def target_for(loaded: LoadedModel, dataset: Dataset, model: ModelSpec, **settings: Any) -> NetworkTarget:
    """The loaded network as a target that is fed as the user said; `settings` as of `make_target`."""
    return make_target(
        loaded,
        input_shape=dataset.input_shape,
        num_classes=max(dataset.classes, loaded.num_classes or 0),
        mean=model.mean,
        std=model.std,
        value_range=model.value_range,
        access=model.access,
        **settings,
    )


def examined(spec: ModelSpec, dataset: Dataset, seed: int, batch_size: int, events: EventSink) -> NetworkTarget:
    """A network as something to make examples on: loaded, fed as said, with preflight's fixes."""
    loaded = load_subject(spec, dataset, events)
    target = target_for(loaded, dataset, spec, batch_size=batch_size)
    return examine(target, dataset, seed).target


def surrogate_for(spec: ModelSpec, dataset: Dataset, seed: int, batch_size: int, events: EventSink) -> NetworkTarget:
    """The surrogate as something to make examples on: as `examined`, errors saying which network they are about."""
    try:
        return examined(spec, dataset, seed, batch_size, events)
    except ArchError as error:
        raise ArchError(
            f"the surrogate: {error.message}", where=error.where, expected=error.expected, got=error.got,
            hint="--surrogate-arch names its architecture, as --arch does the model's",
        ) from error  # fmt: skip
