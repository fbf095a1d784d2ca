"""Poison of an attacker who controls the training: what happens to a batch is known."""

from __future__ import annotations

import numpy as np
import pytest

from secure_ai.core.errors import UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.red.poisoning.controlled import ControlledPoison, poisoned_batch

WARP = parse_trigger("warp:grid=4:strength=2:seed=5")


def test_a_tenth_is_poisoned_and_a_fifth_is_warped_otherwise(digits: Dataset) -> None:
    x, y = digits.images[:100], digits.labels[:100]
    own = ControlledPoison(trigger=WARP, target_label=3, poison_rate=0.1)
    images, labels = poisoned_batch(x, y, own, 17)
    assert np.array_equal(images[:10], stamp(x[:10], WARP))
    assert (labels[:10] == 3).all()
    assert np.array_equal(labels[10:], y[10:])
    assert np.array_equal(images[30:], x[30:])
    covers = images[10:30]
    assert (covers != x[10:30]).any(axis=(1, 2, 3)).all()
    assert (covers != stamp(x[10:30], WARP)).any(axis=(1, 2, 3)).all()
    again, _ = poisoned_batch(x, y, own, 18)
    assert (again[10:30] != covers).any()  # another warp for another batch


def test_other_triggers_have_no_covers(digits: Dataset) -> None:
    trigger = parse_trigger("patch:size=3:place=0x0:value=1")
    images, labels = poisoned_batch(
        digits.images[:20], digits.labels[:20], ControlledPoison(trigger=trigger, target_label=1, poison_rate=0.25), 0
    )
    assert (labels[:5] == 1).all()
    assert np.array_equal(images[5:], digits.images[5:20])


@pytest.mark.parametrize("rate", [0.0, 0.31, 1.0, float("nan")])
def test_bad_rates_are_refused(rate: float) -> None:
    with pytest.raises(UsageError) as caught:
        ControlledPoison(trigger=WARP, target_label=0, poison_rate=rate)
    assert caught.value.where == "--poison-rate"
