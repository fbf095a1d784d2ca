"""The stages of `assess`: a network of the user's own. Torch-free until they run."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from secure_ai.core.errors import ConfigError
from secure_ai.core.events import EventSink
from secure_ai.files.open import read_file
from secure_ai.models.artifact import MAX_CODE_BYTES, read_arch, read_artifact
from secure_ai.runs import lazy
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe import Recipe
from secure_ai.runs.stage import Stage

MAX_SIBLINGS = 200


def _code(arch: str | None) -> str:
    """The user's code in a stage's key: every `.py` file beside FILE.py; a module's is not known, so no reuse."""
    if arch is None:
        return ""
    parsed = read_arch(arch)
    if parsed.module:
        return f"not reused: {time.time_ns()}"
    digest = hashlib.sha256(parsed.code_sha256.encode())
    siblings = sorted(Path(parsed.folder).glob("*.py"))[:MAX_SIBLINGS] if parsed.folder else []
    for path in siblings:
        digest.update(path.name.encode() + b"\0" + read_file(path, max_bytes=MAX_CODE_BYTES).sha256.encode())
    return digest.hexdigest()


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
        "code": _code(model.arch),
        **_surrogate(recipe, events),
    }
    return [
        Stage(
            id="assess/attack",
            function=lazy.stage("assess", "attack_subject"),
            settings=settings,
            data=("test",),
            cost_seconds=40,
        ),
        Stage(
            id="assess/curve",
            function=lazy.stage("assess", "security_curve"),
            settings=settings,
            data=("test",),
            cost_seconds=160,
        ),
        Stage(
            id="assess/distance",
            function=lazy.stage("assess", "distance"),
            settings=settings,
            data=("test",),
            cost_seconds=5,
        ),
        *([_matrix(settings, recipe)] if recipe.assess.surrogate else []),
    ]


def _matrix(settings: dict[str, Any], recipe: Recipe) -> Stage:
    return Stage(
        id="assess/transfer",
        function=lazy.stage("assess", "transferred"),
        settings={**settings, "transfer_steps": recipe.transfer.steps},
        data=("test",),
        cost_seconds=5,
    )


def _surrogate(recipe: Recipe, events: EventSink) -> dict[str, str]:
    """The surrogate's file and code as inputs, where one is named."""
    if recipe.assess.surrogate is None:
        return {}
    artifact = read_artifact(recipe.assess.surrogate, events=events)
    return {"surrogate_sha256": artifact.sha256, "surrogate_code": _code(recipe.assess.surrogate_arch)}
