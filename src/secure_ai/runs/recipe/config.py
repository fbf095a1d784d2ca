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
from secure_ai.runs.recipe.origins import Origin, refuse_named

PROJECT_FILE = "secure-ai.toml"
PREFIX = "SECURE_AI_"
OPTIONS = ("recipe", "out")  # of `run` itself: they are not keys of a recipe
MAX_CONFIG_BYTES = 64 * 1024  # the built-in recipes have 3 kB
MAX_DOTS_A_LINE = 100  # `tomllib` needs quadratic time for a dotted key of many parts
MAX_TOML_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Change:
    """`key` (dotted, e.g. `report_1.epochs`) is to be `value`, because `source` says so."""

    key: str
    value: Any
    source: str
    origin: Origin


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
    return Change(key.strip(), _value(value), source, Origin.FLAG)


def surroundings(environment: Mapping[str, str], folder: Path) -> Surroundings:
    """Read `secure-ai.toml` in `folder`, where there is one, and every `SECURE_AI_*` variable.

    `SECURE_AI_SEED=7` sets `seed`; two underscores go into a section: `SECURE_AI_REPORT_1__EPOCHS=3`.

    Raises:
        ConfigError: malformed TOML, an option that is not text, or code or a path that may not be named there
            (`origins`). Unknown keys are found when the recipe is checked.
    """
    path = folder / PROJECT_FILE
    changes = list(flatten(read_toml(path), PROJECT_FILE, Origin.PROJECT)) if path.exists() else []
    for name in sorted(environment):
        if name.startswith(PREFIX):
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            source = f"environment variable {name}"
            changes.append(Change(key, _value(environment[name]), source, Origin.ENVIRONMENT))
    options: dict[str, str] = {}
    for change in changes:
        refuse_named(change.key, change.value, change.origin, change.source, folder)
        if change.key == "recipe" and change.origin is Origin.PROJECT:
            _refuse_in_recipe(change, folder)
        if change.key in OPTIONS:
            if not isinstance(change.value, str):
                raise ConfigError("not text", where=f"{change.source}, {change.key}", got=change.value)
            options[change.key] = change.value
    return Surroundings(options, tuple(change for change in changes if change.key not in OPTIONS))


def _refuse_in_recipe(change: Change, folder: Path) -> None:
    """A recipe that the project file names may name no more than the project file itself."""
    name = str(change.value)
    if name.endswith(".toml"):
        for named in flatten(read_toml(folder / name), f"{change.source}, recipe {name}", Origin.PROJECT):
            refuse_named(named.key, named.value, named.origin, named.source, folder)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file. Raises ConfigError, or SecureAIError where it cannot be read."""
    file = read_file(path, max_bytes=MAX_CONFIG_BYTES)
    try:
        return parse_toml(file.content.decode("utf-8"), file.name)
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8", where=file.name, got=error.reason) from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML text as a dictionary. Raises ConfigError."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > MAX_DOTS_A_LINE:
            raise ConfigError("too many dots", where=f"{where} line {number}", expected=f"<= {MAX_DOTS_A_LINE} a line")
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a plain ValueError
        raise ConfigError("not valid TOML", where=where, got=error) from None
    _refuse_deep(content, where)
    return content


def _refuse_deep(content: dict[str, Any], where: str) -> None:
    level: list[Any] = [content]
    for _ in range(MAX_TOML_DEPTH):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ConfigError("nested too deep", where=where, expected=f"<= {MAX_TOML_DEPTH} levels")


def _value(text: str) -> Any:
    try:
        content = parse_toml(f"value = {text}", "value")
    except ConfigError:
        return text
    return content["value"] if content.keys() == {"value"} else text


def flatten(content: Mapping[str, Any], source: str, origin: Origin, prefix: str = "") -> Iterator[Change]:
    """Every value of nested sections as a change of its dotted key."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flatten(value, source, origin, f"{prefix}{key}.")
        else:
            yield Change(f"{prefix}{key}", value, source, origin)
