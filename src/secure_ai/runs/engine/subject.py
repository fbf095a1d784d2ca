"""What a measure may ask of the network that it measures; the first target loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from secure_ai.data.dataset import Dataset

if TYPE_CHECKING:
    from secure_ai.models.preflight.preflight import Preflight
    from secure_ai.models.target.target import NetworkTarget


class Subject(Protocol):
    """One network of a run, as its measures see it."""

    @property
    def id(self) -> str:
        """Of the network."""
        ...

    @property
    def artifact(self) -> bytes:
        """Its model file, judged before. Raises ConfigError where there is none."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What its training said of itself (`train_seconds`, ...); empty for a network that was given."""
        ...

    def output(self, name: str) -> bytes:
        """A file that its training put out, e.g. `state.safetensors`. Raises ConfigError where there is none."""
        ...

    def target(self) -> NetworkTarget:
        """It as something to attack, loaded once a stage."""
        ...

    def checked(self, data: Dataset) -> Preflight:
        """Its preflight on `data`, made once a stage; `.target` has the fixes."""
        ...

    def twin(self) -> Subject:
        """The network it is compared with. Raises ConfigError where it has none."""
        ...
