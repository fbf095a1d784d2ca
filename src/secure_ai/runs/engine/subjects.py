"""The two kinds of subject: a network that the run trained, and one that the user gave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from secure_ai.core.errors import ConfigError, DigestMismatchError
from secure_ai.core.result import Model
from secure_ai.data.dataset import Dataset
from secure_ai.files.open import read_file
from secure_ai.models.load.artifact import MAX_MODEL_BYTES
from secure_ai.models.load.store import LoadedModel
from secure_ai.models.load.trained import trained_target
from secure_ai.models.preflight.preflight import Preflight, examine
from secure_ai.models.target.target import NetworkTarget
from secure_ai.runs.engine.measure import Context, Network
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import load_subject, target_for


@dataclass(frozen=True, eq=False)
class _Base:
    """What both kinds share; the methods are those of `Subject`.

    Attributes:
        outputs: files of the network's training; empty where it was given.
        other: its twin, where the plan found one.
    """

    network: Network
    context: Context
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    other: Subject | None = None

    @property
    def id(self) -> str:
        """The network's id."""
        return self.network.id

    @property
    def facts(self) -> Mapping[str, Any]:
        """What its training said of itself."""
        facts: Mapping[str, Any] = json.loads(self.outputs["facts.json"]) if "facts.json" in self.outputs else {}
        return facts

    def output(self, name: str) -> bytes:
        """A file of its training."""
        if name not in self.outputs:
            raise ConfigError("the network has no such file", where=self.id, expected=name, got=sorted(self.outputs))
        return self.outputs[name]

    def twin(self) -> Subject:
        """The network it is compared with."""
        if self.other is None:
            raise ConfigError("the network has no twin", where=self.id, expected="a network row with `against`")
        return self.other

    @cached_property
    def _preflights(self) -> dict[str, Preflight]:
        return {}

    def target(self) -> NetworkTarget:
        """It as something to attack."""
        raise NotImplementedError

    def checked(self, data: Dataset) -> Preflight:
        """Its preflight on `data`, made once."""
        if data.digest not in self._preflights:
            self._preflights[data.digest] = examine(self.target(), data, self.context.seed)
        return self._preflights[data.digest]


@dataclass(frozen=True, eq=False)
class TrainedSubject(_Base):
    """A network that a stage of this run trained."""

    @property
    def artifact(self) -> bytes:
        """Its model file."""
        return self.output("model.safetensors")

    @cached_property
    def _target(self) -> NetworkTarget:
        target = trained_target(self.artifact, self.network.arch, self.id)
        target.network.to(self.context.device)
        return target

    def target(self) -> NetworkTarget:
        """It as something to attack."""
        return self._target


@dataclass(frozen=True, eq=False)
class GivenSubject(_Base):
    """A network of the user's: file or code, loaded in this process."""

    file_sha256: str = ""

    @property
    def artifact(self) -> bytes:
        """Its model file."""
        if self.network.spec is None or self.network.spec.model is None:
            raise ConfigError("the network has no file", where=self.id, expected="--model FILE")
        file = read_file(self.network.spec.model, max_bytes=MAX_MODEL_BYTES)
        self._refuse_changed(file.sha256)
        return file.content

    @cached_property
    def loaded(self) -> LoadedModel:
        """What was read or made, once a stage."""
        loaded = load_subject(self.network.spec or ModelSpec(), self.context.data("test"), self.context.events)
        self._refuse_changed(loaded.file_sha256)
        return loaded

    def _refuse_changed(self, got: str) -> None:
        if got != self.file_sha256:
            raise DigestMismatchError(
                "the model file changed since this run began", where=self.id, expected=self.file_sha256, got=got
            )

    @cached_property
    def _target(self) -> NetworkTarget:
        if self.network.spec is None:
            raise ConfigError("no model named", where=self.id, expected="--model or --arch")
        device = torch.device(self.context.device)
        return target_for(self.loaded, self.context.data("test"), self.network.spec, device=device)

    def target(self) -> NetworkTarget:
        """It as something to attack."""
        return self._target


def model_of(subject: Subject, checked: Preflight) -> Model:
    """The entry of `models` for a network that the user gave."""
    if not isinstance(subject, GivenSubject):
        raise ConfigError("a network of the run's own has its entry already", where=subject.id)
    loaded, network = subject.loaded, subject.network
    return Model(
        id=network.id,
        role=network.role,
        digest=loaded.digest,
        format=loaded.format,
        arch=loaded.arch,
        title=network.title,
        against=network.against,
        user_code=loaded.user_code,
        access=checked.target.access,
        preflight=checked.checks,
        fixes=(*loaded.notes, *checked.fixes),
    )
