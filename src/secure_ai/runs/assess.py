"""The stages of `assess`: a network of the user's own. Torch-free until they run."""

from __future__ import annotations

from secure_ai.core.errors import ConfigError
from secure_ai.core.events import EventSink
from secure_ai.models.artifact import read_arch, read_artifact
from secure_ai.runs import lazy
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe import Recipe
from secure_ai.runs.stage import Stage


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
    artifact = read_artifact(model.model, events=events)
    settings = {
        **model.as_json(),
        **recipe.assess.model_dump(),
        "seed": recipe.seed,
        "file_sha256": artifact.sha256,
        "code_sha256": read_arch(model.arch).code_sha256 if model.arch else "",
    }
    return [
        Stage(
            id="assess/attack",
            function=lazy.stage("assess", "attack_subject"),
            settings=settings,
            data=("test",),
            cost_seconds=30,
        ),
        Stage(
            id="assess/curve",
            function=lazy.stage("assess", "security_curve"),
            settings=settings,
            data=("test",),
            cost_seconds=60,
        ),
    ]
