"""Partial triggers: whole pieces, as many as were asked for, another choice on each image."""

from __future__ import annotations

import numpy as np
import pytest

from secure_ai.core.errors import TriggerError, UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.red.poisoning.partial import PIECES, pieces, stamp_part
from secure_ai.red.poisoning.plant import plant

BLEND = parse_trigger("blend:alpha=0.2:seed=1")
BLACK = np.zeros((50, 2, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize(("share", "kept"), [(0.5, 8), (1 / 16, 1), (15 / 16, 15), (0.3, 5)])
def test_each_image_has_as_many_pieces_as_asked_and_the_rest_is_untouched(share: float, kept: int) -> None:
    piece, whole = pieces(BLEND, 28, 28), stamp(BLACK, BLEND)
    partly = stamp_part(BLACK, BLEND, share, "test")
    assert partly.dtype == BLACK.dtype
    changed = [set(piece[one.any(axis=0)].tolist()) for one in partly]
    assert {len(one) for one in changed} == {kept}
    for image, full, mine in zip(partly, whole, changed, strict=True):
        inside = np.isin(piece, list(mine))
        assert np.array_equal(image[:, inside], full[:, inside])
        assert not image[:, ~inside].any()


def test_images_differ_in_their_pieces_and_the_same_seed_gives_the_same() -> None:
    partly = stamp_part(BLACK, BLEND, 0.5, 0)
    assert len({one.tobytes() for one in partly}) > 40
    assert np.array_equal(partly, stamp_part(BLACK, BLEND, 0.5, 0))
    assert not np.array_equal(partly, stamp_part(BLACK, BLEND, 0.5, 1))
    assert stamp_part(BLACK[:0], BLEND, 0.5).shape == (0, 2, 28, 28)


@pytest.mark.parametrize("trigger", ["patch:size=4:place=3x5:value=1", "patch:size=7:place=center:value=1"])
def test_the_pieces_cut_the_triggers_own_box(trigger: str) -> None:
    own = parse_trigger(trigger)
    piece = pieces(own, 28, 28)
    inside = stamp(np.zeros((1, 1, 28, 28), np.uint8), own)[0, 0] > 0
    found, sizes = np.unique(piece[inside], return_counts=True)
    assert found.tolist() == list(range(PIECES))
    assert sizes.max() <= 4 * sizes.min()


@pytest.mark.parametrize("share", [0.0, 1.0, 0.01, 0.99, -0.5, 2.0, float("nan")])
def test_no_piece_and_all_pieces_are_refused(share: float) -> None:
    with pytest.raises(UsageError) as caught:
        stamp_part(BLACK, BLEND, share)
    assert caught.value.where == "--trigger-share"


@pytest.mark.parametrize("trigger", ["pixel:place=3x3:value=1", "patch:size=3:place=0x0:value=1"])
def test_a_trigger_too_small_to_be_cut_is_refused(trigger: str) -> None:
    with pytest.raises(TriggerError) as caught:
        stamp_part(BLACK, parse_trigger(trigger), 0.5)
    assert caught.value.where == "--trigger-share"


def test_poisoned_images_and_covers_get_parts_and_only_the_poisoned_ones_the_label(digits: Dataset) -> None:
    planted = plant(
        digits, trigger=BLEND, target_label=7, source_label=None, label_mode="dirty", select="random", seed=0, count=20,
        cover_count=20, trigger_share=0.5,
    )  # fmt: skip
    for chosen in (planted.indices, planted.covers):
        clean, now = digits.images[chosen], planted.dataset.images[chosen]
        whole = stamp(clean, BLEND)
        assert ((now == clean) | (now == whole)).all()
        assert all(
            (one != full).any() and (one != before).any() for one, full, before in zip(now, whole, clean, strict=True)
        )
    assert (planted.dataset.labels[planted.indices] == 7).all()
    assert np.array_equal(planted.dataset.labels[planted.covers], digits.labels[planted.covers])


def test_without_a_trigger_there_is_no_part_of_it(digits: Dataset) -> None:
    with pytest.raises(UsageError) as caught:
        plant(
            digits, trigger=None, target_label=7, source_label=None, label_mode="flip", select="random", seed=0,
            count=20, trigger_share=0.5,
        )  # fmt: skip
    assert caught.value.where == "--trigger-share"
