"""The user's own model, in whatever form it was named: a file, a factory, a network or a callable."""

from __future__ import annotations

from typing import Any

from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink
from secure_ai.data.dataset import Dataset
from secure_ai.models.load.store import LoadedModel, load_model, model_of_factory, model_of_object
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
