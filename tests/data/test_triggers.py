"""Triggers: text and value are the same thing, and a stamp changes its own pixels only, exactly."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import TriggerError
from secure_ai.data.triggers import PLACES, Trigger, parse_trigger, region, stamp

EXAMPLE = "patch:size=4:place=bottom-right:value=1"
places = st.one_of(st.sampled_from(PLACES), st.builds("{}x{}".format, st.integers(0, 99), st.integers(0, 99)))
triggers = st.builds(Trigger, size=st.integers(1, 40), place=places, value=st.floats(0, 1))
small = st.builds(Trigger, size=st.integers(1, 6), place=st.sampled_from(PLACES), value=st.floats(0, 1))


def images(dtype: Any = np.uint8) -> np.ndarray:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 2, 9, 7), dtype=np.uint8)
    return pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)


def test_the_example_of_the_reference_reports() -> None:
    trigger = parse_trigger(EXAMPLE)
    assert trigger == Trigger(kind="patch", size=4, place="bottom-right", value=1.0)
    assert trigger.text == EXAMPLE


@settings(max_examples=100, deadline=None)
@given(triggers)
def test_text_round_trip(trigger: Trigger) -> None:
    assert parse_trigger(trigger.text) == trigger


def test_settings_may_stand_in_any_order() -> None:
    assert parse_trigger("patch:value=.5:place=0x3:size=2") == Trigger(size=2, place="0x3", value=0.5)


@pytest.mark.parametrize(
    ("text", "part", "hint"),
    [
        ("", "unknown trigger", "example"),
        ("pach:size=4:place=center:value=1", "unknown trigger", "'patch'"),
        ("patch", "missing", "example"),
        ("patch:size=4:value=1", "missing", "example"),
        ("patch:siz=4:place=center:value=1", "unknown setting", "'size'"),
        ("patch:size=4:postion=center:value=1", "unknown setting", ""),
        ("patch:size=4:place=center:valu=1", "unknown setting", "'value'"),
        ("patch:size=4:size=5:place=center:value=1", "twice", ""),
        ("patch:size:place=center:value=1", "unknown setting", "'size'"),
        ("patch:size=4:place=botom-right:value=1", "unknown place", "'bottom-right'"),
        ("patch:size=4:place=-1x3:value=1", "unknown place", ""),
        ("patch:size=4:place=3x:value=1", "unknown place", ""),
        ("patch:size=4:place=03x1:value=1", "unknown place", ""),
        ("patch:size=0:place=center:value=1", "side", ""),
        ("patch:size=-4:place=center:value=1", "side", ""),
        ("patch:size=4.0:place=center:value=1", "side", ""),
        ("patch:size=٤:place=center:value=1", "side", ""),
        ("patch:size=9999999:place=center:value=1", "side", ""),
        ("patch:size=4:place=center:value=1.01", "out of range", ""),
        ("patch:size=4:place=center:value=255", "out of range", ""),
        ("patch:size=4:place=center:value=-0.1", "brightness", ""),
        ("patch:size=4:place=center:value=nan", "brightness", ""),
        ("patch:size=4:place=center:value=inf", "brightness", ""),
        ("patch:size=4:place=center:value=", "brightness", ""),
        ("patch:size=4:place=center:value=1 ", "brightness", ""),
        ("patch:" + "size=4:" * 100, "too long", ""),
    ],
)
def test_malformed_texts_are_refused(text: str, part: str, hint: str) -> None:
    with pytest.raises(TriggerError, match=part) as caught:
        parse_trigger(text)
    assert hint in caught.value.hint
    assert caught.value.code == "E_TRIGGER"


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "blend"},
        {"size": 0},
        {"size": True},
        {"size": 4.0},
        {"place": "left"},
        {"value": 1.5},
        {"value": float("nan")},
    ],
)
def test_malformed_values_are_refused(fields: dict[str, Any]) -> None:
    clean: dict[str, Any] = {"size": 4, "place": "center", "value": 1.0}
    assert Trigger(**clean).size == 4
    with pytest.raises(TriggerError):
        Trigger(**(clean | fields))


@pytest.mark.parametrize(
    ("place", "row", "column"),
    [
        ("top-left", 0, 0),
        ("top-right", 0, 4),
        ("bottom-left", 6, 0),
        ("bottom-right", 6, 4),
        ("center", 3, 2),
        ("5x1", 5, 1),
    ],
)
def test_places_on_nine_by_seven_pixels(place: str, row: int, column: int) -> None:
    trigger = Trigger(size=3, place=place, value=1)
    assert region(trigger, 9, 7) == (slice(row, row + 3), slice(column, column + 3))
    stamped = stamp(np.zeros((1, 1, 9, 7), np.uint8), trigger)
    assert np.argwhere(stamped[0, 0] == 255).tolist() == [
        [r, c] for r in range(row, row + 3) for c in range(column, column + 3)
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@settings(max_examples=40, deadline=None)
@given(trigger=small)
def test_stamp_laws(dtype: Any, trigger: Trigger) -> None:
    clean = images(dtype)
    before = clean.copy()
    stamped = stamp(clean, trigger)
    rows, columns = region(trigger, 9, 7)
    outside = np.ones((9, 7), dtype=bool)
    outside[rows, columns] = False
    expected = round(255 * trigger.value) if dtype == np.uint8 else dtype(trigger.value)
    assert (stamped[:, :, rows, columns] == expected).all()
    assert outside.sum() == 63 - trigger.size**2
    assert (stamped[:, :, outside] == clean[:, :, outside]).all()
    assert (clean == before).all()
    assert stamped.dtype == clean.dtype
    assert (stamp(stamped, trigger) == stamped).all()


def test_stamp_takes_read_only_images() -> None:
    clean = images()
    clean.flags.writeable = False
    assert stamp(clean, parse_trigger(EXAMPLE)).flags.writeable


def test_the_whole_image_may_be_covered() -> None:
    assert (stamp(np.zeros((1, 1, 4, 4), np.uint8), parse_trigger(EXAMPLE)) == 255).all()


@pytest.mark.parametrize("place", ["bottom-right", "center", "top-left", "3x4", "6x0", "99999x0"])
def test_a_patch_that_does_not_fit_is_refused(place: str) -> None:
    size = 4 if "x" in place else 8
    with pytest.raises(TriggerError, match="does not fit"):
        stamp(images()[:, :, :, :], Trigger(size=size, place=place, value=1))


@pytest.mark.parametrize("array", [np.zeros((9, 7), np.uint8), np.zeros((1, 1, 9, 7), np.int64)])
def test_what_is_no_image_is_refused(array: np.ndarray) -> None:
    with pytest.raises(TriggerError, match="no images"):
        stamp(array, parse_trigger(EXAMPLE))
