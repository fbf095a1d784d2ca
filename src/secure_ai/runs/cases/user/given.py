"""The user's model files, judged before anything is planned, downloaded or imported. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from secure_ai.core.errors import ConfigError
from secure_ai.core.events import EventSink
from secure_ai.models.load.artifact import read_arch, read_artifact
from secure_ai.models.load.code_digest import code_digest
from secure_ai.runs.model_spec import SUBJECT, SURROGATE, ModelSpec
from secure_ai.runs.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True)
class JudgedFiles:
    """Digests of a model's file and of the code that makes it; empty where there is none.

    Attributes:
        user_code: whether code of the user's makes it.
    """

    spec: ModelSpec
    file_sha256: str
    code_sha256: str
    user_code: bool


def judge_files(recipe: Recipe, spec: ModelSpec | None, events: EventSink) -> Mapping[str, JudgedFiles]:
    """The models that `assess` is about, by the id of their network; none where the recipe assesses none.

    Raises:
        ConfigError: the recipe assesses a network and none was named.
        SecureAIError: a model file or the name of an architecture is refused.
    """
    if "assess" not in recipe.parts:
        return {}
    if spec is None or (spec.model is None and spec.arch is None):
        raise ConfigError("no model to assess", where="--model", expected="a model file or --arch", got="none")
    found = {SUBJECT: _judged(spec, events)}
    own = recipe.assess
    if own.surrogate is not None:
        found[SURROGATE] = _judged(surrogate_spec(spec, own.surrogate, own.surrogate_arch), events)
    return found


def surrogate_spec(spec: ModelSpec, model: str, arch: str | None) -> ModelSpec:
    """The surrogate, fed as the model is; its examples need gradients."""
    return ModelSpec(
        model=model, arch=arch, access="gradients", mean=spec.mean, std=spec.std, value_range=spec.value_range
    )


def _judged(spec: ModelSpec, events: EventSink) -> JudgedFiles:
    file = "" if spec.model is None else read_artifact(spec.model, weights_key=spec.weights_key, events=events).sha256
    user_code = spec.arch is not None and not read_arch(spec.arch).built_in
    return JudgedFiles(spec, file, code_digest(spec.arch), user_code)
