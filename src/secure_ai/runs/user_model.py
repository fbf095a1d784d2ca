"""The user's own model, in whatever form it was named: a file, a factory, a network or a callable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secure_ai.blue.certify.layers import Feed
from secure_ai.core.compute import CPU
from secure_ai.core.errors import ArchError, UsageError
from secure_ai.core.events import EventSink
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.models.load.store import LoadedModel, load_model, make_target, model_of_factory, model_of_object
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.runs.model_spec import ModelSpec

IN_MEMORY = "given in Python"
UNTRAINABLE = {
    "keras": "a .keras file is rebuilt for prediction; save its weights and name the architecture with --arch",
    "pt2": "a .pt2 file is a recorded evaluation, without the layers' training behaviour",
    "callable": "a callable has no weights",
}


def is_object(model: Any) -> bool:
    """Whether `model` is the thing itself, not where it is to be found."""
    return not isinstance(model, ModelSpec | str | Path)


def spec_of(model: ModelSpec | str | Path | Any, **how: Any) -> ModelSpec:
    """How to read and feed `model`, which is a spec, a file, or the thing itself.

    Args:
        how: the other fields of a `ModelSpec`.

    Raises:
        UsageError: both a spec and some of its fields, or an architecture beside the thing itself.
    """
    rest = ModelSpec(**how)
    if isinstance(model, ModelSpec):
        if rest != ModelSpec():
            raise UsageError("a ModelSpec says it all", where="attack", expected="its fields in the ModelSpec", got=how)
        return model
    if isinstance(model, str | Path):
        return replace(rest, model=str(model))
    if rest.arch is not None:
        raise UsageError("an architecture without a file", where="arch", expected="a model file", got=rest.arch)
    return rest


def load_subject(spec: ModelSpec, dataset: Dataset, events: EventSink, *, given: Any = None) -> LoadedModel:
    """Read, run or take the model; `given` is the thing itself, where it was handed over. Raises SecureAIError."""
    if given is not None:
        return model_of_object(given, spec.access, name=IN_MEMORY, arch="")
    if spec.model is not None:
        return load_model(
            spec.model,
            arch=spec.arch,
            classes=dataset.classes,
            input_shape=dataset.input_shape,
            weights_key=spec.weights_key,
            events=events,
        )
    if spec.arch is None:
        raise UsageError("no model named", where="--model", expected="a model file, or --arch FILE.py:FACTORY")
    return model_of_factory(spec.arch, spec.access, events=events)


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


def examined(
    spec: ModelSpec, dataset: Dataset, seed: int, batch_size: int, events: EventSink, device: torch.device = CPU
) -> NetworkTarget:
    """A network as something to make examples on: loaded, fed as said, with preflight's fixes."""
    loaded = load_subject(spec, dataset, events)
    target = target_for(loaded, dataset, spec, batch_size=batch_size, device=device)
    return examine(target, dataset, seed).target


def surrogate_for(
    spec: ModelSpec, dataset: Dataset, seed: int, batch_size: int, events: EventSink, device: torch.device = CPU
) -> NetworkTarget:
    """The surrogate as something to make examples on: as `examined`, errors saying which network they are about."""
    try:
        return examined(spec, dataset, seed, batch_size, events, device)
    except ArchError as error:
        raise ArchError(
            f"the surrogate: {error.message}", where=error.where, expected=error.expected, got=error.got,
            hint="--surrogate-arch names its architecture, as --arch does the model's",
        ) from error  # fmt: skip


def trainable(model: ModelSpec | Any, dataset: Dataset, seed: int, events: EventSink) -> tuple[LoadedModel, nn.Module]:
    """A network to train: as it was loaded, and as pixels in [0, 1] are fed to it; both share the weights.

    A built-in name without a file is built with fresh weights.

    Raises:
        UsageError: a model that cannot be trained: `.keras`, `.pt2`, a callable, or access to less than gradients.
        SecureAIError: what loading and preflight refuse.
    """
    spec = spec_of(model)
    if spec.access not in (None, "gradients"):
        raise UsageError("training needs the weights", where="--access", expected="gradients", got=spec.access)
    if isinstance(model, ModelSpec) and model.model is None and model.arch in NETWORKS:
        loaded = model_of_object(build_network(model.arch, generator=generator(seed, model.arch)), None,
                                 name=model.arch, arch=model.arch)  # fmt: skip
    else:
        loaded = load_subject(spec, dataset, events, given=model if is_object(model) else None)
    refuse_untrainable(loaded)
    checked = examine(target_for(loaded, dataset, spec), dataset, seed).target
    network = fed(checked)
    if {id(p) for p in network.parameters()} != {id(p) for p in loaded.network.parameters()}:
        raise UsageError("preflight had to copy the network", where=loaded.name, expected="a network fed as it is")
    return loaded, network


def refuse_untrainable(loaded: LoadedModel) -> None:
    """Raises UsageError for a model whose file describes a network that cannot be trained and written again."""
    reason = UNTRAINABLE.get(loaded.format)
    if reason:
        raise UsageError(
            f"this model cannot be trained: {reason}", where=loaded.name, got=loaded.format,
            expected="safetensors or a torch state dict with --arch, or a built-in name",
        )  # fmt: skip


def fed(target: NetworkTarget) -> nn.Module:
    """The target's network with what is done to pixels before it, as one network."""
    if target.transform == InputTransform():
        return target.network
    return nn.Sequential(Feed(target.transform), target.network)
