"""The stages of `assess`: a network of the user's own. Torch-free until they run."""

from __future__ import annotations

import time
from typing import Any

from secure_ai.core.errors import ConfigError
from secure_ai.core.events import EventSink
from secure_ai.models.load.artifact import BUILT_IN, read_artifact
from secure_ai.models.load.code_digest import code_digest
from secure_ai.runs.engine import lazy
from secure_ai.runs.engine.stage import Stage
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe.recipe import Recipe

FAST_SECONDS = 40  # `fast` with the probes on 1,000 images of a robust network of report 1's size
SLOWER_THAN_FAST = 10  # any other suite; measured of AutoAttack on the PGD-trained network of docs/results.md


def stages(recipe: Recipe, model: ModelSpec | None, events: EventSink) -> list[Stage]:
    """The stages for `model`; the digests of its file and code are inputs, so that a changed file is a new stage.

    Raises:
        ConfigError: the recipe assesses a network and none was named.
        SecureAIError: the model file is refused.
    """
    if "assess" not in recipe.parts:
        return []
    if model is None:
        raise ConfigError("no model to assess", where="--model", expected="a model file", got="none")
    if model.model is None and model.arch is None:
        raise ConfigError("no model to assess", where="--model", expected="a model file or --arch", got="none")
    file_sha256 = "" if model.model is None else read_artifact(model.model, events=events).sha256
    settings = {
        **model.as_json(),
        **recipe.assess.model_dump(),
        "seed": recipe.seed,
        "file_sha256": file_sha256,
        "code": _code(model.arch, model.model),
        **_surrogate(recipe, events),
    }
    seconds = FAST_SECONDS * recipe.assess.n / 1000 * (1 if recipe.assess.attack == "fast" else SLOWER_THAN_FAST)
    points = sum(factor > 0 for factor in recipe.assess.curve)
    transfer_settings = {**settings, "transfer_steps": recipe.transfer.steps}
    return [
        _stage("attack", "attack_subject", settings, seconds),
        _stage("curve", "security_curve", settings, seconds * points),
        _stage("distance", "distance", settings, 5),
        *([_stage("transfer", "transferred", transfer_settings, 5)] if recipe.assess.surrogate else []),
    ]


def _stage(name: str, function: str, settings: dict[str, Any], cost_seconds: float) -> Stage:
    return Stage(
        id=f"assess/{name}",
        function=lazy.stage("assess_stage", function),
        settings=settings,
        data=("test",),
        cost_seconds=cost_seconds,
    )


def _code(arch: str | None, model: str | None) -> str:
    """The user's code in a stage's key; where no file of code, or none of weights, is named, one that never recurs."""
    digest = code_digest(arch)
    return (
        digest
        if arch is None or (digest and model is not None) or arch in BUILT_IN
        else f"not reused: {time.time_ns()}"
    )


def _surrogate(recipe: Recipe, events: EventSink) -> dict[str, str]:
    """The surrogate's file and code as inputs, where one is named."""
    if recipe.assess.surrogate is None:
        return {}
    artifact = read_artifact(recipe.assess.surrogate, events=events)
    return {
        "surrogate_sha256": artifact.sha256,
        "surrogate_code": _code(recipe.assess.surrogate_arch, recipe.assess.surrogate),
    }
