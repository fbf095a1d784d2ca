"""Subsets that can be named and repeated, and the check that training and test data do not overlap.

Every draw depends on its seed alone, through SHA-256 and the raw PCG64 stream, which NumPy keeps stable between
versions (NEP 19 exempts the methods of `Generator`, so none is used).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import LeakError, UsageError
from secure_ai.data.dataset import Dataset, Images, Labels


def random_order(count: int, *parts: object) -> Labels:
    """A permutation of 0..count-1 that depends on `parts` (compared by their text) and on nothing else."""
    text = "\x1f".join(str(part) for part in parts)
    seed = np.random.SeedSequence(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))
    keys = np.random.PCG64(seed).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)


def stratified_sample(labels: Labels, n: int, seed: int) -> Labels:
    """Positions of `n` samples, drawn without replacement, each class in proportion to its share of `labels`.

    Rounded by largest remainder; ties go to the lower label.

    Args:
        labels: (N,) int64.
        n: how many, 1..N.

    Returns:
        (n,) int64, ascending.

    Raises:
        UsageError: `n` outside 1..N.
    """
    _check_count(n, len(labels), "a sample")
    values, counts = np.unique(labels, return_counts=True)
    quotas = largest_remainder(counts, n)
    chosen = [
        np.flatnonzero(labels == value)[random_order(count, "stratified-sample", seed, value)[:quota]]
        for value, count, quota in zip(values.tolist(), counts.tolist(), quotas.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def largest_remainder(counts: NDArray[np.integer[Any]], n: int) -> Labels:
    """`n` seats over groups in proportion to `counts` (all >= 0, their sum >= n), by Hamilton's method, exactly."""
    total = int(counts.sum())
    shares = [divmod(n * int(count), total) for count in counts]
    quotas = np.array([whole for whole, _ in shares], dtype=np.int64)
    by_remainder = sorted(range(len(shares)), key=lambda group: (-shares[group][1], group))
    quotas[by_remainder[: n - int(quotas.sum())]] += 1
    return quotas


def also(*notes: str) -> str:
    """Notes as one, the empty ones left out."""
    return "; ".join(note for note in notes if note)


def first_n(dataset: Dataset, n: int) -> Dataset:
    """The first `n` images in file order; the note says that this is no random sample.

    Raises:
        UsageError: `n` outside 1..N.
    """
    _check_count(n, len(dataset), dataset.name)
    return dataset.select(np.arange(n), also(dataset.note, f"first {n}, not a random sample"), drawn="first")


def sample_n(dataset: Dataset, n: int, seed: int) -> Dataset:
    """A stratified random sample of `n` images in file order, the same for the same seed.

    Raises:
        UsageError: `n` outside 1..N.
    """
    _check_count(n, len(dataset), dataset.name)
    note = f"stratified random sample, {n} of {len(dataset)}, seed {seed}"
    if dataset.note:
        note = f"{dataset.note}; of these a {note}"
    return dataset.select(stratified_sample(dataset.labels, n, seed), note, drawn="stratified")


def sample(dataset: Dataset, n: int | None, seed: int) -> Dataset:
    """As `sample_n`, or all where there are no more."""
    return dataset if n is None or len(dataset) <= n else sample_n(dataset, n, seed)


def hold_out_last(dataset: Dataset, n: int) -> tuple[Dataset, Dataset]:
    """All but the last `n` images, and the last `n`: what Keras does for `validation_split` (no shuffling).

    Raises:
        UsageError: `n` outside 1..N-1.
    """
    _check_count(n, len(dataset) - 1, dataset.name)
    rest = len(dataset) - n
    return (
        dataset.select(np.arange(rest), f"all but the last {n}"),
        dataset.select(np.arange(rest, len(dataset)), f"last {n}"),
    )


def _check_count(n: int, most: int, name: str) -> None:
    if not 1 <= n <= most:
        raise UsageError("the number of samples does not fit the data", where=name, expected=f"1..{most}", got=n)


def refuse_leak(train: Dataset, test: Dataset) -> int:
    """How many test images also stand, pixel for pixel, among the training images.

    Raises:
        LeakError: both are the same data, or every test image is a training image.
    """
    shared = 0 if train.input_shape != test.input_shape else _count_shared(train, test)
    if train.digest == test.digest or shared == len(test):
        raise LeakError(
            "the test data are training data",
            where=f"{train.name} and {test.name}",
            expected="images that training has not seen",
            got=f"{shared} of {len(test)} test images are training images",
        )
    return shared


def _count_shared(train: Dataset, test: Dataset) -> int:
    as_float = train.images.dtype != test.images.dtype
    known = set(_hashes(train.images, as_float))
    return sum(digest in known for digest in _hashes(test.images, as_float))


def _hashes(images: Images, as_float: bool) -> list[bytes]:
    if as_float and images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    return [hashlib.blake2b(image.data, digest_size=16).digest() for image in images]
