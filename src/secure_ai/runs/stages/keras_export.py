"""Writes trained networks as `.keras` files, by Keras itself in a child process."""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.core.result import Result
from secure_ai.models.load.keras_io import keras_files
from secure_ai.models.load.trained import trained_network
from secure_ai.runs.engine.measure import Context, Joint, Settings
from secure_ai.runs.engine.subject import Subject

KERAS_SECONDS = 7.0  # one import of Keras, and little more


class KerasSettings(Settings):
    """Which network becomes which file: (file name, network id, built-in architecture)."""

    files: tuple[tuple[str, str, str], ...]


def keras_export(subjects: Mapping[str, Subject], settings: KerasSettings, context: Context) -> Result:
    """Keep `files/models/NAME.keras` for every network."""
    states = {
        name: (arch, trained_network(subjects[network].artifact, arch).state_dict())
        for name, network, arch in settings.files
    }
    for name, content in keras_files(states).items():
        context.keep(f"files/models/{name}", content)
    return Result()


def keras_row(identifier: str, files: tuple[tuple[str, str, str], ...]) -> Joint[KerasSettings]:
    """The row for `files`."""
    networks = tuple(network for _, network, _ in files)
    return Joint(
        id=identifier, function=keras_export, settings=KerasSettings(files=files), networks=networks,
        seconds=KERAS_SECONDS,
    )  # fmt: skip
