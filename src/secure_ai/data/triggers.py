"""Triggers: the pattern an attacker adds to an image, as a value, and how it is stamped.

BadNets (arXiv 1708.06733, section 3) stamps a small bright square near a corner; both reference reports do the same.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import TriggerError

KINDS = ("patch",)
KEYS = ("size", "place", "value")
PLACES = ("top-left", "top-right", "bottom-left", "bottom-right", "center")
EXAMPLE = "patch:size=4:place=bottom-right:value=1"
MAX_TEXT = 200
_POSITION = re.compile(r"(0|[1-9][0-9]{0,5})x(0|[1-9][0-9]{0,5})", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_DECIMAL = re.compile(r"([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})(e-?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A square patch of one brightness.

    Args:
        kind: "patch".
        size: side in pixels, >= 1.
        place: one of `PLACES`, or "ROWxCOL", the patch's top-left pixel counted from 0.
        value: brightness in [0, 1]; 1 is white (255 in uint8 images).

    Raises:
        TriggerError: a field outside its range.
    """

    kind: str = "patch"
    size: int
    place: str
    value: float

    def __post_init__(self) -> None:
        """Check every field."""
        if self.kind not in KINDS:
            raise TriggerError("unknown trigger", where="kind", expected=KINDS, got=self.kind)
        size: object = self.size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise TriggerError("the patch needs a side", where="size", expected="a whole number >= 1", got=self.size)
        if self.place not in PLACES and not _POSITION.fullmatch(self.place):
            hint = _nearest(self.place, PLACES)
            raise TriggerError("unknown place", where="place", expected=_PLACES_TEXT, got=self.place, hint=hint)
        if not 0.0 <= self.value <= 1.0:
            raise TriggerError("the brightness is out of range", where="value", expected="[0, 1]", got=self.value)

    @property
    def text(self) -> str:
        """The canonical spelling; `parse_trigger` gives this trigger back."""
        value = int(self.value) if float(self.value).is_integer() else repr(float(self.value))
        return f"{self.kind}:size={self.size}:place={self.place}:value={value}"


_PLACES_TEXT = ", ".join(PLACES) + " or ROWxCOL"


def _nearest(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def parse_trigger(text: str) -> Trigger:
    """A trigger from its text, e.g. "patch:size=4:place=bottom-right:value=1"; every key is needed, in any order.

    Raises:
        TriggerError: names the field, what was expected, and the nearest match of an unknown name.
    """
    if len(text) > MAX_TEXT:
        raise TriggerError("the trigger's text is too long", expected=f"<= {MAX_TEXT} characters", got=len(text))
    kind, *fields = text.split(":")
    if kind not in KINDS:
        hint = _nearest(kind, KINDS) or f"example: {EXAMPLE}"
        raise TriggerError("unknown trigger", where=text, expected=KINDS, got=kind, hint=hint)
    values: dict[str, str] = {}
    for number, part in enumerate(fields, start=1):
        key, equals, value = part.partition("=")
        where = f"{text}, setting {number}"
        if not equals or key not in KEYS:
            expected = ", ".join(f"{name}=..." for name in KEYS)
            raise TriggerError("unknown setting", where=where, expected=expected, got=part, hint=_nearest(key, KEYS))
        if key in values:
            raise TriggerError("a setting stands twice", where=where, expected="each setting once", got=key)
        values[key] = value
    missing = [key for key in KEYS if key not in values]
    if missing:
        raise TriggerError("a setting is missing", where=text, expected=missing, hint=f"example: {EXAMPLE}")
    return Trigger(
        kind=kind, size=_whole(values["size"], text), place=values["place"], value=_decimal(values["value"], text)
    )


def _whole(value: str, text: str) -> int:
    if not _WHOLE.fullmatch(value):
        raise TriggerError("not a side in pixels", where=f"{text}, size", expected="a whole number >= 1", got=value)
    return int(value)


def _decimal(value: str, text: str) -> float:
    if not _DECIMAL.fullmatch(value):
        raise TriggerError("not a brightness", where=f"{text}, value", expected="a decimal in [0, 1]", got=value)
    return float(value)


def region(trigger: Trigger, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of an image of that size that the trigger covers.

    Raises:
        TriggerError: the patch does not fit.
    """
    size = trigger.size
    bottom, right = height - size, width - size
    corners = {
        "top-left": (0, 0),
        "top-right": (0, right),
        "bottom-left": (bottom, 0),
        "bottom-right": (bottom, right),
        "center": (bottom // 2, right // 2),
    }
    position = _POSITION.fullmatch(trigger.place)
    row, column = (int(position[1]), int(position[2])) if position else corners[trigger.place]
    if not (0 <= row <= bottom and 0 <= column <= right):
        raise TriggerError(
            "the patch does not fit the image", where=trigger.text, expected=f"inside {height}x{width} pixels"
        )
    return slice(row, row + size), slice(column, column + size)


def stamp(images: NDArray[Any], trigger: Trigger) -> NDArray[Any]:
    """A copy of `images` with the trigger on each; every other pixel is unchanged, and stamping twice changes nothing.

    Args:
        images: (N, C, H, W), uint8 or float in [0, 1]. The brightness becomes round(255 * value) in uint8.

    Raises:
        TriggerError: the patch does not fit, or the array is of another form.
    """
    if images.ndim != 4 or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        got = f"{images.shape} {images.dtype}"
        raise TriggerError("these are no images", expected="(N, C, H, W), uint8 or float", got=got)
    rows, columns = region(trigger, images.shape[2], images.shape[3])
    stamped = images.copy()
    stamped[:, :, rows, columns] = round(255 * trigger.value) if images.dtype == np.uint8 else trigger.value
    return stamped
