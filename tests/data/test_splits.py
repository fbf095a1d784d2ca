"""Laws of sampling, and the leak check."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import LeakError, UsageError
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import (
    first_n,
    hold_out_last,
    largest_remainder,
    random_order,
    refuse_leak,
    sample_n,
    stratified_sample,
)


def dataset(count: int, seed: int = 0, name: str = "d") -> Dataset:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    return Dataset(images, np.arange(count) % 3, name, 3)


@st.composite
def labels_and_n(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    labels = draw(st.lists(st.integers(0, 6), min_size=1, max_size=120))
    return np.array(labels, dtype=np.int64), draw(st.integers(1, len(labels)))


@settings(max_examples=80, deadline=None)
@given(labels_and_n(), st.integers(0, 2**63))
def test_stratified_sample_laws(case: tuple[np.ndarray, int], seed: int) -> None:
    labels, n = case
    chosen = stratified_sample(labels, n, seed)
    assert chosen.dtype == np.int64
    assert len(chosen) == n == len(set(chosen.tolist()))
    assert (np.diff(chosen) > 0).all()
    assert chosen.min() >= 0
    assert chosen.max() < len(labels)
    assert chosen.tolist() == stratified_sample(labels, n, seed).tolist()
    for label in range(7):
        share = n * np.count_nonzero(labels == label) / len(labels)
        assert abs(np.count_nonzero(labels[chosen] == label) - share) < 1  # the quota rule


def test_the_whole_is_its_own_sample() -> None:
    labels = np.array([2, 0, 1, 1, 0])
    assert stratified_sample(labels, 5, 3).tolist() == [0, 1, 2, 3, 4]


def test_a_sample_depends_on_its_seed_and_only_on_it() -> None:
    labels = np.arange(1000) % 10
    first = stratified_sample(labels, 100, 0)
    np.random.default_rng(0).random(5)
    assert first.tolist() == stratified_sample(labels, 100, 0).tolist()
    assert first.tolist() != stratified_sample(labels, 100, 1).tolist()


def test_a_sample_is_the_same_for_ever() -> None:
    # Published numbers name their sample by its seed, so a new NumPy or a new idea must not change it.
    assert stratified_sample(np.arange(40) % 4, 6, 0).tolist() == [5, 9, 12, 31, 36, 38]
    assert random_order(8, "x", 1).tolist() == [7, 2, 0, 6, 5, 1, 4, 3]


def test_every_member_is_drawn_equally_often() -> None:
    labels = np.array([0] * 10 + [1] * 30)
    hits = np.zeros(40)
    for seed in range(2000):
        hits[stratified_sample(labels, 8, seed)] += 1
    # 2000 draws of 20 % each: mean 400, standard deviation 17.9
    assert np.abs(hits - 400).max() < 5 * 17.9


@pytest.mark.parametrize(
    ("counts", "n", "expected"),
    [
        ([10, 10, 10], 3, [1, 1, 1]),
        ([10, 10, 10], 4, [2, 1, 1]),  # equal remainders: the lower label
        ([1, 98, 1], 10, [0, 10, 0]),
        ([15, 15, 70], 10, [2, 1, 7]),
        ([60, 40], 1, [1, 0]),
        ([5], 5, [5]),
    ],
)
def test_largest_remainder(counts: list[int], n: int, expected: list[int]) -> None:
    assert largest_remainder(np.array(counts), n).tolist() == expected


@pytest.mark.parametrize("n", [0, -1, 7])
def test_counts_outside_the_data_are_refused(n: int) -> None:
    data = dataset(6)
    for refuse in (
        lambda: first_n(data, n),
        lambda: sample_n(data, n, 0),
        lambda: hold_out_last(data, n),
        lambda: stratified_sample(data.labels, n, 0),
    ):
        with pytest.raises(UsageError, match="expected: 1"):
            refuse()


def test_first_n_says_that_it_is_no_random_sample() -> None:
    data = first_n(dataset(6), 2)
    assert data.indices.tolist() == [0, 1]
    assert data.drawn == "first"


def test_sample_n_says_what_it_is() -> None:
    data = sample_n(dataset(9), 3, 7)
    assert (data.drawn, data.note) == ("stratified", "stratified random sample, 3 of 9, seed 7")
    assert sorted(data.labels.tolist()) == [0, 1, 2]


def test_a_random_sample_of_the_first_images_is_still_one_of_the_first() -> None:
    assert sample_n(first_n(dataset(9), 6), 3, 7).drawn == "first"
    assert first_n(sample_n(dataset(9), 6, 7), 3).drawn == "first"


def test_hold_out_last_cuts_without_shuffling() -> None:
    train, held_out = hold_out_last(dataset(10), 3)
    assert train.indices.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert held_out.indices.tolist() == [7, 8, 9]
    assert (train.drawn, held_out.drawn) == ("all", "all")
    assert {part.drawn for part in hold_out_last(first_n(dataset(10), 8), 3)} == {"first"}
    assert (train.note, held_out.note) == ("all but the last 3", "last 3")
    with pytest.raises(UsageError):
        hold_out_last(dataset(10), 10)


def test_data_without_overlap_pass() -> None:
    assert refuse_leak(dataset(30, 1), dataset(10, 2)) == 0


def test_the_same_data_are_refused_under_another_name() -> None:
    with pytest.raises(LeakError) as caught:
        refuse_leak(dataset(9, name="a"), dataset(9, name="b"))
    assert caught.value.code == "E_LEAK"
    assert "9 of 9" in caught.value.got


def test_a_part_of_the_training_data_is_refused() -> None:
    data = dataset(9)
    with pytest.raises(LeakError):
        refuse_leak(data, first_n(data, 4))


def test_single_duplicates_are_counted() -> None:
    train, test = dataset(9, 1), dataset(9, 2)
    images = test.images.copy()
    images[[2, 5]] = train.images[7]
    assert refuse_leak(train, Dataset(images, test.labels, "t", 3)) == 2


def test_duplicates_are_found_across_pixel_types() -> None:
    train = dataset(9)
    images = train.images.astype(np.float32) / np.float32(255)
    test = Dataset(images, np.roll(train.labels, 1), "t", 3)
    with pytest.raises(LeakError):
        refuse_leak(train, test)


def test_images_of_another_size_cannot_overlap() -> None:
    other = Dataset(np.zeros((2, 1, 5, 5), np.uint8), np.array([0, 1]), "t", 3)
    assert refuse_leak(dataset(9), other) == 0
