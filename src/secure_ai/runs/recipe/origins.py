"""Which source of settings may name code or a path: one function decides it for every key that can hold either.

Code is named by a flag (`--set` included) or in Python, never by environment, project file or recipe. Paths that a
project file names stay beneath its folder. So a cloned repository cannot make this tool run its code or read and
replace files elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from secure_ai.core.errors import ConfigError
from secure_ai.models.load.artifact import BUILT_IN

CODE_KEYS = frozenset({"assess.surrogate_arch"})
PATH_KEYS = frozenset({"recipe", "out", "data.train", "data.test", "assess.surrogate"})
ATTACK_KEYS = frozenset({"assess.attack", "suite.attack"})  # `examples:FILE.npz` among them names a path

_EXAMPLES = re.compile(r"(?:^|,)\s*examples:([^,]*)")
_BUILT_IN_DATA = re.compile(r"mnist:(train|test)([:~][0-9]+)?", re.ASCII)


class Origin(StrEnum):
    """Who set a value, weakest last."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    PROJECT = "project"
    RECIPE = "recipe"


def refuse_named(key: str, value: Any, origin: Origin, source: str, folder: Path) -> None:
    """Refuse `value` where `origin` may not name the code or the path that it is.

    Args:
        key: dotted, e.g. `assess.surrogate_arch`; keys that hold neither code nor a path pass.
        source: what the error calls the origin, e.g. `secure-ai.toml`.
        folder: the project file's.

    Raises:
        ConfigError: code from anywhere but a flag, or a project file's path that leaves `folder`, links followed.
    """
    if origin is Origin.FLAG:
        return
    if isinstance(value, Mapping):  # a whole section in one value: SECURE_AI_ASSESS='{surrogate_arch = "x.py:make"}'
        for name, inner in value.items():
            refuse_named(f"{key}.{name}", inner, origin, source, folder)
    if not isinstance(value, str):
        return
    if key in CODE_KEYS and value not in BUILT_IN:
        raise ConfigError(
            "code may not be named here",
            where=f"{source}, {key}",
            expected=f"{' or '.join(BUILT_IN)}; code is named on the command line only",
            got=value,
            hint=f"if you trust that code: --set {key}={value}",
        )
    if origin is Origin.PROJECT:
        for path in _paths(key, value):
            _refuse_outside(path, f"{source}, {key}", folder)


def _paths(key: str, value: str) -> list[str]:
    if key in ATTACK_KEYS:
        return _EXAMPLES.findall(value)
    return [value] if key in PATH_KEYS and not _BUILT_IN_DATA.fullmatch(value) else []


def _refuse_outside(path: str, where: str, folder: Path) -> None:
    try:
        inside = (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, a loop of links
        inside = False
    if not inside:
        raise ConfigError(
            "a path of a project file leaves its folder", where=where, expected="a path beneath the folder of "
            "secure-ai.toml", got=path, hint="name it on the command line",
        )  # fmt: skip
