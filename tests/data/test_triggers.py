"""Triggers: text and value are the same thing, and a stamp changes its own pixels only, exactly."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import TriggerError
from secure_ai.data.trigger_kinds import KINDS, PLACES
from secure_ai.data.triggers import Trigger, covered, make_trigger, parse_trigger, stamp

EXAMPLE = "patch:size=4:place=bottom-right:value=1"
EXAMPLES = {kind: row.example for kind, row in KINDS.items()}
places = st.one_of(st.sampled_from(PLACES), st.builds("{}x{}".format, st.integers(0, 99), st.integers(0, 99)))


def patch(size: int, place: str, value: float) -> Trigger:
    return make_trigger("patch", size=size, place=place, value=value)


triggers = st.builds(patch, st.integers(1, 40), places, st.floats(0, 1))
small = st.builds(patch, st.integers(1, 6), st.sampled_from(PLACES), st.floats(0, 1))


def images(dtype: Any = np.uint8) -> np.ndarray:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 2, 9, 7), dtype=np.uint8)
    return pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)


@settings(max_examples=100, deadline=None)
@given(triggers)
def test_text_round_trip(trigger: Trigger) -> None:
    assert parse_trigger(trigger.text) == trigger


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES)
def test_the_examples_are_canonical(text: str) -> None:
    assert parse_trigger(text).text == text


def test_settings_may_stand_in_any_order() -> None:
    assert parse_trigger("patch:value=.5:place=0x3:size=2") == patch(2, "0x3", 0.5)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "example"),
        ("pach:size=4:place=center:value=1", "'patch'"),
        ("patch", "example"),
        ("patch:size=4:value=1", "example"),
        ("patch:siz=4:place=center:value=1", "'size'"),
        ("patch:size=4:postion=center:value=1", ""),
        ("patch:size=4:place=center:valu=1", "'value'"),
        ("patch:size=4:size=5:place=center:value=1", ""),
        ("patch:size:place=center:value=1", "'size'"),
        ("patch:size=4:place=botom-right:value=1", "'bottom-right'"),
        ("patch:size=4:place=-1x3:value=1", ""),
        ("patch:size=4:place=3x:value=1", ""),
        ("patch:size=4:place=03x1:value=1", ""),
        ("patch:size=0:place=center:value=1", ""),
        ("patch:size=-4:place=center:value=1", ""),
        ("patch:size=4.0:place=center:value=1", ""),
        ("patch:size=٤:place=center:value=1", ""),
        ("patch:size=9999999:place=center:value=1", ""),
        ("patch:size=4:place=center:value=1.01", ""),
        ("patch:size=4:place=center:value=255", ""),
        ("patch:size=4:place=center:value=-0.1", ""),
        ("patch:size=4:place=center:value=nan", ""),
        ("patch:size=4:place=center:value=inf", ""),
        ("patch:size=4:place=center:value=", ""),
        ("patch:size=4:place=center:value=1 ", ""),
        ("patch:" + "size=4:" * 100, ""),
        ("pixel:size=4:place=center:value=1", ""),
        ("checkerboard:size=3:place=center:value=1", ""),
        ("blend:alpha=0:seed=1", ""),
        ("blend:alpha=0.2", "example"),
        ("sinusoid:amplitude=0.1:periods=0", ""),
        ("frequency:row=-1:column=3:amplitude=0.1", ""),
        ("warp:grid=1:strength=0.5:seed=1", ""),
    ],
)
def test_malformed_texts_are_refused(text: str, hint: str) -> None:
    with pytest.raises(TriggerError) as caught:
        parse_trigger(text)
    assert hint in caught.value.hint
    assert caught.value.where.startswith("--trigger")
    assert "'" not in caught.value.expected  # text, no Python list


@pytest.mark.parametrize(
    "fields", [{"size": 0}, {"size": True}, {"size": 4.0}, {"place": "left"}, {"value": 1.5}, {"value": float("nan")}]
)
def test_malformed_values_are_refused(fields: dict[str, Any]) -> None:
    clean: dict[str, Any] = {"size": 4, "place": "center", "value": 1.0}
    assert make_trigger("patch", **clean).values["size"] == 4
    with pytest.raises(TriggerError):
        make_trigger("patch", **(clean | fields))
    with pytest.raises(TriggerError):
        make_trigger("star", **clean)


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
    stamped = stamp(np.zeros((1, 1, 9, 7), np.uint8), patch(3, place, 1))
    assert np.argwhere(stamped[0, 0] == 255).tolist() == [
        [r, c] for r in range(row, row + 3) for c in range(column, column + 3)
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@settings(max_examples=40, deadline=None)
@given(trigger=small)
def test_a_patch_is_exact(dtype: Any, trigger: Trigger) -> None:
    stamped = stamp(images(dtype), trigger)
    value = float(trigger.values["value"])
    mask = covered(trigger, 9, 7)
    assert (stamped[:, :, mask] == (round(255 * value) if dtype == np.uint8 else dtype(value))).all()
    assert mask.sum() == int(trigger.values["size"]) ** 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_laws_of_every_kind(kind: str, dtype: Any) -> None:
    clean = images(dtype)
    before, trigger = clean.copy(), parse_trigger(KINDS[kind].example)
    stamped, mask = stamp(clean, trigger), covered(trigger, 9, 7)
    assert (clean == before).all()
    assert stamped.dtype == clean.dtype
    assert 0 <= stamped.min() <= stamped.max() <= (255 if dtype == np.uint8 else 1)
    assert (stamped[:, :, ~mask] == clean[:, :, ~mask]).all()
    assert (stamped != clean).any()
    assert bool((stamp(stamped, trigger) == stamped).all()) == KINDS[kind].idempotent
    assert (stamp(clean[::-1], trigger)[::-1] == stamped).all()  # each image by itself


def test_known_values() -> None:
    grey = np.full((1, 1, 8, 8), 0.5)
    board = stamp(grey, parse_trigger("checkerboard:size=2:place=top-left"))[0, 0, :2, :2]
    assert board.tolist() == [[1, 0], [0, 1]]
    wave = stamp(grey, parse_trigger("sinusoid:amplitude=0.25:periods=2"))[0, 0]
    assert np.allclose(wave[3], 0.5 + 0.25 * np.array([0, 1, 0, -1, 0, 1, 0, -1]))
    flat = stamp(grey, parse_trigger("frequency:row=0:column=0:amplitude=0.25"))
    assert np.allclose(flat, 0.75)
    mixed = stamp(np.ones((1, 1, 8, 8)), parse_trigger("blend:alpha=0.25:seed=3"))
    assert 0.75 <= mixed.min() < mixed.max() <= 1
    assert np.allclose(stamp(grey, parse_trigger("warp:grid=3:strength=1:seed=2")), 0.5)  # nothing to move


def test_seeds_make_other_patterns() -> None:
    for text in ("blend:alpha=0.2:seed={}", "warp:grid=4:strength=1:seed={}"):
        first, second = (stamp(images(), parse_trigger(text.format(seed))) for seed in (1, 2))
        assert (first != second).any()


def test_stamp_takes_read_only_images() -> None:
    clean = images()
    clean.flags.writeable = False
    assert stamp(clean, parse_trigger(EXAMPLE)).flags.writeable


def test_the_whole_image_may_be_covered() -> None:
    assert (stamp(np.zeros((1, 1, 4, 4), np.uint8), parse_trigger(EXAMPLE)) == 255).all()


@pytest.mark.parametrize("place", ["bottom-right", "center", "top-left", "3x4", "6x0", "99999x0"])
def test_a_patch_that_does_not_fit_is_refused(place: str) -> None:
    with pytest.raises(TriggerError) as caught:
        stamp(images(), patch(4 if "x" in place else 8, place, 1))
    assert (caught.value.where, caught.value.got) == ("--trigger, place", place)


def test_a_frequency_that_the_image_lacks_is_refused() -> None:
    assert stamp(images(), parse_trigger("frequency:row=8:column=6:amplitude=0.1")).shape == (3, 2, 9, 7)
    for text in ("frequency:row=9:column=1:amplitude=0.1", "frequency:row=1:column=7:amplitude=0.1"):
        with pytest.raises(TriggerError) as caught:
            stamp(images(), parse_trigger(text))
        assert caught.value.where.startswith("--trigger")


@pytest.mark.parametrize("array", [np.zeros((9, 7), np.uint8), np.zeros((1, 1, 9, 7), np.int64)])
def test_what_is_no_image_is_refused(array: np.ndarray) -> None:
    with pytest.raises(TriggerError):
        stamp(array, parse_trigger(EXAMPLE))


def test_the_page_describes_every_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "backdoors-repair.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z]+)` \| `([^`]+)` \|", page, flags=re.MULTILINE)
    assert dict(listed) == EXAMPLES
