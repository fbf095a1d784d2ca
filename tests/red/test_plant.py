from __future__ import annotations

import numpy as np
import pytest

from secure_ai.core.errors import UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.red.poisoning.plant import backdoor_success_rate, plant

TRIGGER = parse_trigger("patch:size=4:place=bottom-right:value=1")


def test_report_1_stamps_the_first_of_the_class_and_keeps_labels(digits: Dataset) -> None:
    planted = plant(
        digits, trigger=TRIGGER, target_label=7, source_label=7, label_mode="clean", select="first", seed=0, count=10
    )
    assert planted.indices.tolist() == np.flatnonzero(digits.labels == 7)[:10].tolist()
    assert np.array_equal(planted.dataset.labels, digits.labels)
    assert (planted.dataset.images[planted.indices][:, :, -4:, -4:] == 255).all()
    untouched = np.setdiff1d(np.arange(len(digits)), planted.indices)
    assert np.array_equal(planted.dataset.images[untouched], digits.images[untouched])
    assert np.array_equal(planted.dataset.images[planted.indices], stamp(digits.images[planted.indices], TRIGGER))


def test_report_2_relabels(digits: Dataset) -> None:
    planted = plant(
        digits, trigger=TRIGGER, target_label=1, source_label=7, label_mode="dirty", select="first", seed=0, count=10
    )
    assert (digits.labels[planted.indices] == 7).all()
    assert (planted.dataset.labels[planted.indices] == 1).all()
    assert int((planted.dataset.labels != digits.labels).sum()) == 10


def test_badnets_takes_a_share_of_all_from_every_other_class(digits: Dataset) -> None:
    arguments = {"trigger": TRIGGER, "target_label": 7, "source_label": None, "label_mode": "dirty", "select": "random"}
    planted = plant(digits, **arguments, seed=0, poison_rate=0.1)  # type: ignore[arg-type]  # a table of arguments
    assert len(planted.indices) == 60
    assert planted.poison_rate == 0.1
    assert 7 not in digits.labels[planted.indices]
    assert len(np.unique(digits.labels[planted.indices])) == 9
    again = plant(digits, **arguments, seed=0, poison_rate=0.1)  # type: ignore[arg-type]  # the same
    other = plant(digits, **arguments, seed=1, poison_rate=0.1)  # type: ignore[arg-type]  # the same
    assert np.array_equal(planted.indices, again.indices)
    assert not np.array_equal(planted.indices, other.indices)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": None, "poison_rate": None},
        {"count": 5, "poison_rate": 0.1},
        {"count": 0},
        {"count": 61},
        {"count": 10**9},
        {"count": None, "poison_rate": 1.5},
        {"count": None, "poison_rate": float("nan")},
        {"count": None, "poison_rate": 0.0},
        {"count": None, "poison_rate": 1.0},
        {"source_label": 1},
        {"trigger": None},
        {"label_mode": "flip"},
        {"label_mode": "clean", "source_label": None, "target_label": None},
        {"label_mode": "odd"},
        {"cover_count": -1},
        {"cover_count": 481},
        {"target_label": 10},
        {"target_label": -1},
        {"source_label": 10},
        {"label_mode": "clean", "source_label": 3},
    ],
)
def test_bad_requests_are_refused(digits: Dataset, changes: dict[str, object]) -> None:
    arguments: dict[str, object] = {
        "trigger": TRIGGER,
        "target_label": 1,
        "source_label": 7,
        "label_mode": "dirty",
        "select": "first",
        "seed": 0,
        "count": 5,
    }
    plant(digits, **arguments)  # type: ignore[arg-type]  # the same call with good arguments is accepted
    with pytest.raises(UsageError) as caught:
        plant(digits, **(arguments | changes))  # type: ignore[arg-type]  # a table of arguments
    assert caught.value.where.startswith("--")
    assert "'" not in caught.value.expected  # text, no Python list


def test_success_counts_only_samples_of_another_class() -> None:
    labels = np.array([7, 7, 7, 1, 2, 3])
    predictions = np.array([7, 7, 7, 7, 2, 3])
    success = backdoor_success_rate(predictions, labels, 7, classes=10)
    assert (success.successes, success.n) == (1, 3)
    assert backdoor_success_rate(predictions, labels, 7, source_label=2, classes=10).value == 0.0
    nothing = backdoor_success_rate(predictions[:3], labels[:3], 7, classes=10)
    assert nothing.value is None
    assert nothing.reason


def test_covers_keep_their_label_and_are_of_neither_class(digits: Dataset) -> None:
    planted = plant(
        digits, trigger=TRIGGER, target_label=1, source_label=7, label_mode="dirty", select="random", seed=0, count=10,
        cover_count=20,
    )  # fmt: skip
    assert len(planted.covers) == 20
    assert not {1, 7} & set(digits.labels[planted.covers].tolist())
    assert np.array_equal(planted.dataset.labels[planted.covers], digits.labels[planted.covers])
    assert (planted.dataset.images[planted.covers][:, :, -4:, -4:] == 255).all()
    assert int((planted.dataset.labels != digits.labels).sum()) == 10


def test_all_to_all_sends_every_class_to_the_next(digits: Dataset) -> None:
    planted = plant(
        digits, trigger=TRIGGER, target_label=None, source_label=None, label_mode="dirty", select="random", seed=0,
        count=200,
    )  # fmt: skip
    before, after = digits.labels[planted.indices], planted.dataset.labels[planted.indices]
    assert np.array_equal(after, (before + 1) % 10)
    assert backdoor_success_rate((digits.labels + 1) % 10, digits.labels, None, classes=10).value == 1.0
    assert backdoor_success_rate(digits.labels, digits.labels, None, classes=10).value == 0.0
    few = digits.labels[digits.labels < 9]  # the next class of 8 is 9, though no sample has it
    assert backdoor_success_rate(few + 1, few, None, classes=10).value == 1.0


def test_flipping_changes_labels_only(digits: Dataset) -> None:
    planted = plant(
        digits, trigger=None, target_label=3, source_label=None, label_mode="flip", select="random", seed=0, count=50
    )
    assert np.array_equal(planted.dataset.images, digits.images)
    assert int((planted.dataset.labels != digits.labels).sum()) == 50


def test_perturbed_images_keep_their_label_and_get_the_trigger_last(digits: Dataset) -> None:
    planted = plant(
        digits, trigger=TRIGGER, target_label=7, source_label=None, label_mode="clean", select="random", seed=0,
        count=20, perturb=lambda images, labels: 255 - images,
    )  # fmt: skip
    chosen = planted.indices
    expected = stamp(255 - digits.images[chosen], TRIGGER)
    assert np.array_equal(planted.dataset.images[chosen], expected)
    assert np.array_equal(planted.dataset.labels, digits.labels)
    rest = np.setdiff1d(np.arange(len(digits)), chosen)
    assert np.array_equal(planted.dataset.images[rest], digits.images[rest])
    with pytest.raises(UsageError) as caught:
        plant(
            digits, trigger=TRIGGER, target_label=7, source_label=None, label_mode="dirty", select="random", seed=0,
            count=20, perturb=lambda images, labels: images,
        )  # fmt: skip
    assert caught.value.where == "--perturb-model"
