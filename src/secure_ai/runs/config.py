"""Where the settings of a run come from: flag > environment > `secure-ai.toml` > recipe > default.

Each setting is a `Change` of one key of the recipe that remembers its source, so that an error can name it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_ai.core.errors import ConfigError
from secure_ai.files.open import read_file

PROJECT_FILE = "secure-ai.toml"
PREFIX = "SECURE_AI_"
OPTIONS = ("recipe", "out")  # of `run` itself: they are not keys of a recipe
MAX_CONFIG_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """`key` (dotted, e.g. `report_1.epochs`) is to be `value`, because `source` says so."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What environment and project file say: options of `run`, and changes of the recipe, weakest first."""

    options: Mapping[str, str]
    changes: tuple[Change, ...]


def parse_change(text: str, source: str = "--set") -> Change:
    """`KEY=VALUE`, the value as TOML where it is TOML, else as text. Raises ConfigError."""
    key, separator, value = text.partition("=")
    if not separator or not all(key.strip().split(".")):
        raise ConfigError("cannot set that", where=source, expected="KEY=VALUE, e.g. report_1.epochs=1", got=text)
    return Change(key.strip(), _value(value), source)


def surroundings(environment: Mapping[str, str], folder: Path) -> Surroundings:
    """Read `secure-ai.toml` in `folder`, where there is one, and every `SECURE_AI_*` variable.

    `SECURE_AI_SEED=7` sets `seed`; two underscores go into a section: `SECURE_AI_REPORT_1__EPOCHS=3`.

    Raises:
        ConfigError: malformed TOML, or an option that is not text. Unknown keys are found when the recipe is checked.
    """
    path = folder / PROJECT_FILE
    changes = list(_flatten(read_toml(path), "", PROJECT_FILE)) if path.exists() else []
    for name in sorted(environment):
        if name.startswith(PREFIX):
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            changes.append(Change(key, _value(environment[name]), f"environment variable {name}"))
    options: dict[str, str] = {}
    for change in changes:
        if change.key in OPTIONS:
            if not isinstance(change.value, str):
                raise ConfigError("not text", where=f"{change.source}, {change.key}", got=change.value)
            options[change.key] = change.value
    return Surroundings(options, tuple(change for change in changes if change.key not in OPTIONS))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file. Raises ConfigError, or SecureAIError where it cannot be read."""
    file = read_file(path, max_bytes=MAX_CONFIG_BYTES)
    try:
        return parse_toml(file.content.decode("utf-8"), file.name)
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8", where=file.name, got=error.reason) from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML text as a dictionary. Raises ConfigError."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a plain ValueError
        raise ConfigError("not valid TOML", where=where, got=error) from None


def _value(text: str) -> Any:
    try:
        content = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return content["value"] if content.keys() == {"value"} else text


def _flatten(content: Mapping[str, Any], prefix: str, source: str) -> Iterator[Change]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.", source)
        else:
            yield Change(f"{prefix}{key}", value, source)
