"""Triggers: the pattern an attacker adds to an image, as a value with a text, and how it is stamped."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import TriggerError
from secure_ai.data.trigger_kinds import KINDS, PLACES, POSITION, Setting, Value

EXAMPLE = KINDS["patch"].example
MAX_TEXT = 200
CHUNK = 2_000  # images painted at once
_WHOLE = re.compile(r"0|[1-9][0-9]{0,5}", re.ASCII)
_DECIMAL = re.compile(r"([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})(e-?[0-9]{1,3})?", re.ASCII)
_PLACES_TEXT = ", ".join(PLACES) + " or ROWxCOL"


@dataclass(frozen=True, slots=True)
class Trigger:
    """A kind of `KINDS` with all its settings, in the kind's order.

    Raises:
        TriggerError: unknown kind, a setting that is missing, unknown or out of range.
    """

    kind: str
    settings: tuple[tuple[str, Value], ...]

    def __post_init__(self) -> None:
        """Check every field."""
        if self.kind not in KINDS:
            hint = _nearest(self.kind, KINDS) or f"example: {EXAMPLE}"
            raise TriggerError("unknown trigger", where="--trigger", expected=", ".join(KINDS), got=self.kind,
                               hint=hint)  # fmt: skip
        wanted, values = KINDS[self.kind].settings, dict(self.settings)
        if list(wanted) != [name for name, _ in self.settings]:
            example = f"example: {KINDS[self.kind].example}"
            raise TriggerError("other settings than its kind's", where=f"--trigger {self.kind}",
                               expected=", ".join(wanted), hint=example)  # fmt: skip
        for name, setting in wanted.items():
            _check(f"--trigger {self.kind}, {name}", setting, values[name])

    @property
    def values(self) -> Mapping[str, Value]:
        """The settings by name."""
        return dict(self.settings)

    @property
    def text(self) -> str:
        """The canonical spelling; `parse_trigger` gives this trigger back."""
        return ":".join([self.kind, *(f"{name}={_spelled(value)}" for name, value in self.settings)])


def _spelled(value: Value) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def _nearest(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _check(where: str, setting: Setting, value: Value) -> None:
    if setting.type == "place":
        if not isinstance(value, str) or not (value in PLACES or POSITION.fullmatch(value)):
            hint = _nearest(str(value), PLACES)
            raise TriggerError("unknown place", where=where, expected=_PLACES_TEXT, got=value, hint=hint)
        return
    kinds = int if setting.type == "whole" else int | float
    expected = f"{'a whole number' if setting.type == 'whole' else 'a decimal'} in [{setting.low:g}, {setting.high:g}]"
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TriggerError("not such a number", where=where, expected=expected, got=value)
    if not (math.isfinite(value) and setting.low <= value <= setting.high):
        raise TriggerError("out of range", where=where, expected=expected, got=value)


def make_trigger(kind: str, **settings: Value) -> Trigger:
    """A trigger from its settings in any order. Raises TriggerError."""
    wanted, where = KINDS[kind].settings if kind in KINDS else {}, f"--trigger {kind}"
    unknown = [name for name in settings if name not in wanted]
    if unknown and wanted:
        hint = _nearest(unknown[0], wanted)
        raise TriggerError("unknown setting", where=where, expected=", ".join(wanted), got=unknown[0], hint=hint)
    missing = [name for name in wanted if name not in settings]
    if missing:
        example = f"example: {KINDS[kind].example}"
        raise TriggerError("a setting is missing", where=where, expected=", ".join(missing), hint=example)
    return Trigger(kind, tuple((name, settings[name]) for name in wanted))


def parse_trigger(text: str) -> Trigger:
    """A trigger from its text, e.g. "patch:size=4:place=bottom-right:value=1"; every key is needed, in any order.

    Raises:
        TriggerError: names the field, what was expected, and the nearest match of an unknown name.
    """
    if len(text) > MAX_TEXT:
        raise TriggerError("the trigger's text is too long", where="--trigger", expected=f"<= {MAX_TEXT} characters",
                           got=len(text))  # fmt: skip
    where = f"--trigger {text}"
    kind, *fields = text.split(":")
    wanted = KINDS[kind].settings if kind in KINDS else {}
    values: dict[str, Value] = {}
    for part in fields if wanted else ():
        key, equals, value = part.partition("=")
        if not equals or key not in wanted:
            expected = ", ".join(f"{name}=..." for name in wanted)
            raise TriggerError("unknown setting", where=where, expected=expected, got=part, hint=_nearest(key, wanted))
        if key in values:
            raise TriggerError("a setting stands twice", where=where, expected="each setting once", got=key)
        values[key] = _read(f"{where}, {key}", wanted[key], value)
    return make_trigger(kind, **values)


def _read(where: str, setting: Setting, text: str) -> Value:
    if setting.type == "place":
        return text
    form = _WHOLE if setting.type == "whole" else _DECIMAL
    if not form.fullmatch(text):
        raise TriggerError("not such a number", where=where, expected=f"a {setting.type} number", got=text)
    return int(text) if setting.type == "whole" else float(text)


def covered(trigger: Trigger, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (H, W) that the trigger may change. Raises TriggerError where it does not fit."""
    return KINDS[trigger.kind].covers(trigger.values, height, width)


def stamp(images: NDArray[Any], trigger: Trigger) -> NDArray[Any]:
    """A copy of `images` with the trigger on each; every pixel that it does not cover is unchanged.

    Args:
        images: (N, C, H, W), uint8 or float in [0, 1]. In uint8 the result is rounded to the nearest of 255 steps.

    Raises:
        TriggerError: the trigger does not fit, or the array is of another form.
    """
    if images.ndim != 4 or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        got = f"{images.shape} {images.dtype}"
        raise TriggerError("these are no images", expected="(N, C, H, W), uint8 or float", got=got)
    covered(trigger, *images.shape[2:])
    scale = 255 if images.dtype == np.uint8 else 1
    stamped = images.copy()
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].astype(np.float64) / scale
        painted = KINDS[trigger.kind].paint(part, trigger.values) * scale
        stamped[start : start + CHUNK] = np.rint(painted) if scale == 255 else painted
    return stamped
